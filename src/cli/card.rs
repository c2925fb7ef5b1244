//! The recovery card: how the mesh is found again. With the owner's words, which are never on it,
//! it is all that a new machine needs.
//!
//! ```text
//! quloud recovery card 1
//! mesh family
//! address /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...
//! check 1a2b3c4d
//! ```
//! It is text, so that it can be printed, copied and typed off; the QR code holds the same text.
//! `check` is the CRC-32 of the lines above it, each with one `\n` at its end: it finds what was
//! mistyped. Blank lines and blanks at the ends of lines do not count, and what stands behind
//! `check` is not read, so that what `quloud card --qr` printed can be given back whole. A line
//! that this version does not know, such as the secret of a mesh that has one, is refused.

use super::args::{GlobalOptions, settings};
use super::output::{Output, printable};
use crate::api::client::Client;
use crate::config::Flags;
use crate::node::datadir::{self, DataDir, DataDirError};
use crate::node::report::{Failure, FailureKind};
use clap::Args;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::json;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

const TITLE: &str = "quloud recovery card 1";

/// The most addresses on a card: so many still make a QR code that a telephone reads.
const ADDRESSES_MAX: usize = 4;

/// What is said of a card on which there is none.
const NO_ADDRESS: &str = "There is no address on it yet: a running node (`quloud up`) writes those \
                          of others down within a minute of meeting them, and `quloud card --qr` \
                          prints a complete one then.";

/// The longest file that a card is looked for in.
const CARD_BYTES_MAX: u64 = 64 << 10;

/// Print the recovery card: the mesh's name and some of its nodes' addresses
///
/// The owner's 24 words bring everything back from any mesh that holds it; the card says which mesh
/// that is and where it answers. Keep it with the words. The words themselves are not on it. The
/// addresses are those of other nodes that were connected last: print it again when they change.
/// The mesh is the one in which the node runs, or ran last, whatever the settings say now.
#[derive(Debug, Args)]
pub(super) struct PrintCard {
    /// Print the card as a QR code, too
    #[arg(long)]
    qr: bool,
}

impl PrintCard {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let path = global.data_dir()?;
        datadir::check(&path)?;
        let running = match DataDir::open(&path) {
            Err(DataDirError::InUse { .. }) => Client::new(&path).status(Some(0)).await.ok(),
            _ => None,
        };
        let card = Card::of(global, running.map(|status| status.mesh))?;
        let text = card.encode();
        let qr = match self.qr {
            true => Some(code(&text, io::stdout().is_terminal())?),
            false => None,
        };
        let Card { mesh, addresses } = &card;
        let document = json!({ "mesh": mesh, "addresses": addresses, "card": text, "qr": qr });
        output.result(&document, || match &qr {
            Some(qr) => format!("{text}\n{qr}\n"),
            None => text.clone(),
        })?;
        let named = settings(global, Flags::new())?.config.mesh;
        if named != *mesh {
            let mesh = printable(mesh);
            output.note(&printable(&format!(
                "It names the mesh {mesh:?}, in which the node runs, or ran last; the settings say \
                 {named:?}."
            )));
        }
        if addresses.is_empty() {
            output.note(NO_ADDRESS);
        }
        Ok(0)
    }
}

/// What a card says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Card {
    mesh: String,
    addresses: Vec<String>,
}

impl Card {
    /// The card of this data folder: the mesh in which its node runs, or ran last, else that of the
    /// settings; the nodes met last, then those that the settings name.
    pub(super) fn of(global: &GlobalOptions, running: Option<String>) -> Result<Self, Failure> {
        let path = global.data_dir()?;
        datadir::check(&path)?;
        let config = settings(global, Flags::new())?.config;
        let mut addresses = datadir::known_addresses(&path, ADDRESSES_MAX);
        for named in config.bootstrap {
            if !addresses.contains(&named) {
                addresses.push(named);
            }
        }
        addresses.truncate(ADDRESSES_MAX);
        let mesh = running.or_else(|| datadir::last_mesh(&path)).unwrap_or(config.mesh);
        Ok(Self { mesh, addresses })
    }

    /// Its text and the QR code of it, as for a file or the screen; where there is no address on it
    /// also how to get one that is complete. All of it can be given back.
    pub(super) fn sheet(&self, terminal: bool) -> Result<String, Failure> {
        let text = self.encode();
        let code = code(&text, terminal)?;
        let missing = match self.addresses.is_empty() {
            true => format!("\n{NO_ADDRESS}\n"),
            false => String::new(),
        };
        Ok(format!("{text}{missing}\n{code}\n"))
    }

    /// Its text, line ends included.
    pub(super) fn encode(&self) -> String {
        let mut text = format!("{TITLE}\nmesh {}\n", self.mesh);
        for address in &self.addresses {
            text.push_str(&format!("address {address}\n"));
        }
        let check = crc32fast::hash(text.as_bytes());
        text + &format!("check {check:08x}\n")
    }

    /// Reads a card's text.
    fn decode(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        match lines.next().and_then(|line| line.strip_prefix("quloud recovery card ")) {
            Some("1") => {}
            Some(_) => return Err("it was made by a newer version".to_owned()),
            None => return Err(format!("it does not begin with {TITLE:?}")),
        }
        let (mut mesh, mut addresses) = (None, Vec::new());
        let mut read = format!("{TITLE}\n");
        for line in lines {
            let (name, value) = line.split_once(' ').unwrap_or((line, ""));
            match name {
                "check" => {
                    let check = format!("{:08x}", crc32fast::hash(read.as_bytes()));
                    return match mesh {
                        Some(mesh) if value.eq_ignore_ascii_case(&check) => {
                            Ok(Self { mesh, addresses })
                        }
                        Some(_) => Err("its check does not match: a line is mistyped".to_owned()),
                        None => Err("it names no mesh".to_owned()),
                    };
                }
                "mesh" if mesh.is_none() => mesh = Some(value.to_owned()),
                "address" => addresses.push(value.to_owned()),
                _ => return Err(format!("{:?} is not known here", printable(name))),
            }
            read.push_str(&format!("{line}\n"));
        }
        Err("its last line, which begins with \"check\", is missing".to_owned())
    }

    /// Reads a card that was saved or typed off.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |why: String| {
            let what = format!("the recovery card in {} cannot be used", path.display());
            let hint = "compare it with the printed one, or use --mesh and --bootstrap instead";
            Failure::new(FailureKind::Usage, printable(&what), why, hint)
        };
        let mut text = String::new();
        let read =
            File::open(path).and_then(|file| file.take(CARD_BYTES_MAX).read_to_string(&mut text));
        read.map_err(|error| failed(error.to_string()))?;
        Self::decode(&text).map_err(failed)
    }

    /// As the settings take it; `flags` are those of the command line, which come first.
    pub(super) fn into_flags(self, mut flags: Flags) -> Flags {
        if !flags.iter().any(|(flag, _)| *flag == "--mesh") {
            flags.push(("--mesh", vec![self.mesh]));
        }
        match flags.iter_mut().find(|(flag, _)| *flag == "--bootstrap") {
            Some((_, addresses)) => addresses.extend(self.addresses),
            None if self.addresses.is_empty() => {}
            None => flags.push(("--bootstrap", self.addresses)),
        }
        flags
    }
}

/// The text as a QR code of half blocks. On a terminal light modules are drawn, as most are dark;
/// elsewhere the dark ones, as on paper.
fn code(text: &str, terminal: bool) -> Result<String, Failure> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).map_err(|error| {
        let hint = "print it without --qr";
        Failure::new(FailureKind::Failed, "the card makes no QR code", error.to_string(), hint)
    })?;
    let (dark, light) = match terminal {
        true => (Dense1x2::Light, Dense1x2::Dark),
        false => (Dense1x2::Dark, Dense1x2::Light),
    };
    Ok(code.render::<Dense1x2>().dark_color(dark).light_color(light).quiet_zone(true).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Card {
        let peer = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
        let address = |host: u8| format!("/ip4/192.0.2.{host}/tcp/4001/p2p/{peer}");
        Card { mesh: "our family".to_owned(), addresses: vec![address(7), address(200)] }
    }

    #[test]
    fn a_card_is_read_as_it_was_printed_or_typed_off() {
        let text = card().encode();
        assert!(text.starts_with("quloud recovery card 1\nmesh our family\naddress /ip4/"));
        assert_eq!(Card::decode(&text), Ok(card()));
        let typed = text.replace('\n', "  \r\n\n") + "\nwhatever stands\nbelow";
        assert_eq!(Card::decode(&typed), Ok(card()));
        let alone = Card { addresses: Vec::new(), ..card() };
        assert_eq!(Card::decode(&alone.encode()), Ok(alone));
    }

    #[test]
    fn a_mistyped_card_is_refused() {
        let text = card().encode();
        for (from, to) in [
            ("192.0.2.7", "192.0.2.1"),
            ("mesh our", "mesh 0ur"),
            ("check ", "check 0"),
            ("card 1", "card 2"),
            ("mesh", "mash"),
            ("mesh our family\n", ""),
            ("\nmesh", "\nsecret 1234\nmesh"),
            (TITLE, "some other text"),
        ] {
            assert!(Card::decode(&text.replacen(from, to, 1)).is_err(), "{from} as {to}");
        }
        for length in 0..text.trim_end().len() {
            assert!(Card::decode(&text[..length]).is_err());
        }
    }

    #[test]
    fn the_command_line_comes_before_the_card() {
        let Card { mesh, addresses } = card();
        let given = vec![("--bootstrap", vec!["/ip4/192.0.2.9/tcp/1".to_owned()])];
        let flags = card().into_flags(given);
        let expected = [&["/ip4/192.0.2.9/tcp/1".to_owned()][..], &addresses].concat();
        assert_eq!(flags, [("--bootstrap", expected), ("--mesh", vec![mesh.clone()])]);
        let flags = card().into_flags(Flags::new());
        assert_eq!(flags, [("--mesh", vec![mesh]), ("--bootstrap", addresses.clone())]);
        let other = vec![("--mesh", vec!["attic".to_owned()])];
        let flags = card().into_flags(other.clone());
        assert_eq!(flags, [&other[..], &[("--bootstrap", addresses)]].concat());
    }

    #[test]
    fn a_sheet_is_read_as_its_card_and_says_what_is_missing_on_it() {
        let sheet = card().sheet(false).unwrap();
        assert!(sheet.contains('\u{2588}') && !sheet.contains("no address"), "{sheet}");
        assert_eq!(Card::decode(&sheet), Ok(card()));
        let alone = Card { addresses: Vec::new(), ..card() };
        let sheet = alone.sheet(false).unwrap();
        assert!(sheet.contains("no address on it yet") && sheet.contains("quloud card --qr"));
        assert_eq!(Card::decode(&sheet), Ok(alone));
    }

    #[test]
    fn a_full_card_fits_a_code_that_a_terminal_shows() {
        let mut full = card();
        full.addresses = vec![full.addresses[1].replace("ip4/192.0.2.200", "dns4/nas.example"); 4];
        let [dark, light] = [false, true].map(|terminal| code(&full.encode(), terminal).unwrap());
        assert!(dark.lines().count() <= 50, "{}", dark.lines().count());
        assert!(dark.lines().all(|line| line.chars().count() <= 100));
        assert!(dark.starts_with(' ') && light.starts_with('\u{2588}'), "the quiet zone");
    }
}
