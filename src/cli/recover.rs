//! `quloud recover`: a new machine, the owner's words and one address of the mesh.

use super::args::{GlobalOptions, NodeOptions, settings};
use super::card::Card;
use super::init::generator;
use super::output::{Output, count, printable};
use super::progress::{Meter, follow};
use super::secrets::{self, PassphraseOptions, read_words};
use super::session::Session;
use super::signals::{Interrupt, interrupted};
use super::snapshots::line;
use crate::config::{self, Effective};
use crate::node::datadir::{self, Identity, peer_id};
use crate::node::report::{
    Failure, FailureKind, HeadReport, RecoverRequest, Recovered, SnapshotReport, date,
};
use clap::Args;
use serde::Serialize;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

/// So many of the newest snapshots are shown.
const SHOWN: usize = 20;

/// Make this machine a device of the owner again, from the 24 words
///
/// Makes the keys of a new node and, from the words, the owner's; finds through any node of the
/// mesh what all devices of the owner have backed up, and lists the snapshots. Nothing of the old
/// machine is needed. What was broken off goes on when the command is run again; keys of another
/// owner are never touched.
#[derive(Debug, Args)]
pub(super) struct Recover {
    /// Read the words from this file, which nobody else may read [default: stdin]
    #[arg(long, value_name = "FILE")]
    words_file: Option<PathBuf>,
    /// Find the mesh as this recovery card says, which `quloud card` printed; --mesh and
    /// --bootstrap come before what is on it
    #[arg(long, value_name = "FILE")]
    card_file: Option<PathBuf>,
    /// Ask nothing: without --passphrase-file the keys have no passphrase on this machine
    #[arg(long)]
    yes: bool,
    /// Go on with this head in place of the device that wrote it, which is lost for good
    #[arg(long, value_name = "INDEX")]
    take_over: Option<u16>,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    data_dir: &'a Path,
    peer_id: &'a str,
    #[serde(flatten)]
    found: &'a Recovered,
    /// Oldest first.
    snapshots: &'a [SnapshotReport],
}

impl Recover {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let flags = match &self.card_file {
            Some(path) => Card::read(path)?.into_flags(self.node.flags()),
            None => self.node.flags(),
        };
        let settings = settings(global, flags)?;
        let identity = self.identity(&global.data_dir()?, &settings, output)?;
        let (path, peer_id) = (identity.dir.path().to_owned(), peer_id(&identity.node));
        let interrupt = Interrupt::listen()?;
        let session = Session::start(&settings, identity).await?;
        let resume = "run the same command again";
        let request = RecoverRequest { take_over: self.take_over };
        let work = async {
            let meter = Meter::new("recover", output);
            let found = follow(session.client.recover(&request), meter, &interrupt, resume).await?;
            let listed = tokio::select! {
                listed = session.client.snapshots() => listed.map_err(Failure::from)?,
                () = interrupt.wait() => return Err(interrupted(resume)),
            };
            Ok((found, listed.snapshots))
        };
        let result = work.await;
        session.close(&interrupt).await;
        let (found, snapshots) = result?;
        let document =
            Document { data_dir: &path, peer_id: &peer_id, found: &found, snapshots: &snapshots };
        for head in &found.heads {
            output.note(&told(head));
        }
        for note in &found.notes {
            output.note(&printable(note));
        }
        output.result(&document, || list(&snapshots))?;
        self.tell(&found, &snapshots, output);
        let doubtful = !found.whole || found.heads.iter().any(|head| head.doubtful);
        Ok(if doubtful { FailureKind::Partial.exit_code() } else { 0 })
    }

    /// Makes the folder and its keys, or takes those of an earlier call; and writes down how the
    /// mesh is found, so that other commands need not be told.
    fn identity(
        &self,
        path: &Path,
        settings: &Effective,
        output: &Output,
    ) -> Result<Identity, Failure> {
        let master = read_words(self.words_file.as_deref())?;
        let mesh = &settings.config.mesh;
        let template = match settings.is_default("mesh") {
            true => config::template(),
            false => config::template_of(mesh),
        };
        let asks = !self.yes && io::stdin().is_terminal() && io::stderr().is_terminal();
        let new = || match self.passphrase.read()? {
            None if asks => secrets::ask_new(),
            given => Ok(given),
        };
        let existing = || self.passphrase.read_or_ask();
        let identity =
            datadir::recover(path, &master, &template, new, existing, &mut generator()?)?;
        let path = identity.dir.path();
        if let Err(error) = identity.dir.remember(&settings.config.bootstrap) {
            output.note(&format!("the addresses were not written down: {error}"));
        }
        let kept = Effective::load(path, Vec::new(), Vec::new())?.config.mesh;
        if kept != *mesh {
            let file = path.join(config::FILE_NAME);
            output.note(&format!(
                "{} names the mesh {kept:?}: set `mesh = {mesh:?}` there, or say --mesh each time",
                file.display()
            ));
        }
        Ok(identity)
    }

    fn tell(&self, found: &Recovered, snapshots: &[SnapshotReport], output: &Output) {
        let more = snapshots.len().saturating_sub(SHOWN);
        if more > 0 {
            output.note(&format!("and {more} older ones: `quloud snapshots` lists them all"));
        }
        output.note(&format!("This device writes head {} from now on.", found.index));
        if snapshots.is_empty() {
            output.note(
                "There are no snapshots: none was made, or all were forgotten. `quloud heads` \
                 shows what was before.",
            );
        } else {
            output.note("Next: `quloud restore latest --target FOLDER`, then `quloud up`.");
        }
    }
}

/// How one head was found.
fn told(head: &HeadReport) -> String {
    let HeadReport { index, number, signed_at, agree, silent, .. } = head;
    let agree = count(u64::try_from(*agree).unwrap_or(u64::MAX), "node");
    let silent = match silent {
        0 => String::new(),
        silent => format!(", {silent} did not answer"),
    };
    let (date, written) = (date(*signed_at), count(*number, "time"));
    format!("head {index}: written {written}, last on {date}, and kept so by {agree}{silent}")
}

fn list(snapshots: &[SnapshotReport]) -> String {
    let newest = snapshots.get(snapshots.len().saturating_sub(SHOWN)..).unwrap_or_default();
    newest.iter().map(line).collect()
}
