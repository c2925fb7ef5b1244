//! The table of settings: name, unit, default, help, and how a text becomes the value.

use super::size;
use super::{Config, Domains};

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// In the file; `QULOUD_` and capitals in the environment; `--` and hyphens as a flag.
    pub name: &'static str,
    /// What a value is written in.
    pub unit: &'static str,
    /// Used where nobody says otherwise; parsed like any other text.
    pub default: &'static [&'static str],
    /// Whether it takes a list.
    pub many: bool,
    /// One line of help.
    pub help: &'static str,
    /// Parses the texts into the configuration; the error says what would be right.
    pub set: fn(&mut Config, &[String]) -> Result<(), String>,
    /// The value as text, as `set` would take it.
    pub show: fn(&Config) -> Vec<String>,
}

/// Longest mesh name in bytes.
const MESH_BYTES_MAX: usize = 64;

/// Longest site and operator in bytes; [`crate::core::message::Hello`] carries no more.
const LABEL_BYTES_MAX: usize = 32;

/// The least that repairs may move in a day: a few chunks.
const REPAIR_MIN: u64 = 100_000_000;

/// Most addresses in one list; more is a mistake.
const ADDRESSES_MAX: usize = 64;

/// Every setting, in the order in which they are shown.
pub static SETTINGS: [Setting; 13] = [
    Setting {
        name: "listen",
        unit: "multiaddress, repeatable",
        default: &[
            "/ip4/0.0.0.0/tcp/4747",
            "/ip4/0.0.0.0/udp/4747/quic-v1",
            "/ip6/::/tcp/4747",
            "/ip6/::/udp/4747/quic-v1",
        ],
        many: true,
        help: "Addresses to listen on; port 0 lets the system choose.",
        set: |config, values| addresses(values).map(|value| config.listen = value),
        show: |config| config.listen.clone(),
    },
    Setting {
        name: "bootstrap",
        unit: "multiaddress, repeatable",
        default: &[],
        many: true,
        help: "Addresses of nodes to join the mesh through; one that answers is enough.",
        set: |config, values| addresses(values).map(|value| config.bootstrap = value),
        show: |config| config.bootstrap.clone(),
    },
    Setting {
        name: "mdns",
        unit: "on or off",
        default: &["on"],
        many: false,
        help: "Look for nodes of the mesh on the local network.",
        set: |config, values| switch(values).map(|value| config.mdns = value),
        show: |config| vec![on_off(config.mdns)],
    },
    Setting {
        name: "lan_only",
        unit: "on or off",
        default: &["off"],
        many: false,
        help: "Talk to loopback, private and link-local addresses only.",
        set: |config, values| switch(values).map(|value| config.lan_only = value),
        show: |config| vec![on_off(config.lan_only)],
    },
    Setting {
        name: "mesh",
        unit: "name, 1 to 64 bytes",
        default: &["quloud"],
        many: false,
        help: "The mesh to join; nodes of other meshes are not talked to.",
        set: |config, values| mesh(values).map(|value| config.mesh = value),
        show: |config| vec![config.mesh.clone()],
    },
    Setting {
        name: "capacity",
        unit: "size, such as 500GB or 1TiB",
        default: &["100GB"],
        many: false,
        help: "Disk space given to others; the same order of size is what others give.",
        set: |config, values| capacity(values).map(|value| config.capacity = value),
        show: |config| vec![size::exact(config.capacity)],
    },
    Setting {
        name: "account_quota",
        unit: "size, or auto: half of the capacity",
        default: &["auto"],
        many: false,
        help: "Disk space that a single owner may use of the capacity.",
        set: |config, values| size_or_auto(values).map(|value| config.account_quota = value),
        show: |config| vec![config.account_quota.map_or("auto".to_owned(), size::exact)],
    },
    Setting {
        name: "reserve",
        unit: "size, or auto: the larger of 1GiB and 1 % of the disk",
        default: &["auto"],
        many: false,
        help: "Space on the disk that is left free, whatever the capacity.",
        set: |config, values| size_or_auto(values).map(|value| config.reserve = value),
        show: |config| vec![config.reserve.map_or("auto".to_owned(), size::exact)],
    },
    Setting {
        name: "scrub_days",
        unit: "days, 1 to 30",
        default: &["15"],
        many: false,
        help: "All that is kept for others is read once in so many days, so that rot is found.",
        set: |config, values| scrub_days(values).map(|value| config.scrub_days = value),
        show: |config| vec![config.scrub_days.to_string()],
    },
    Setting {
        name: "repair_per_day",
        unit: "size, or unlimited",
        default: &["100GB"],
        many: false,
        help: "What repairs that nobody asked for may move in any 24 hours, both ways together.",
        set: |config, values| size_or_unlimited(values).map(|value| config.repair_per_day = value),
        show: |config| vec![config.repair_per_day.map_or("unlimited".to_owned(), size::exact)],
    },
    Setting {
        name: "site",
        unit: "label, at most 32 bytes",
        default: &[""],
        many: false,
        help: "Where the node stands; replicas are spread over sites.",
        set: |config, values| label(values).map(|value| config.site = value),
        show: |config| vec![config.site.clone()],
    },
    Setting {
        name: "operator",
        unit: "label, at most 32 bytes",
        default: &[""],
        many: false,
        help: "Who runs the node; shown to the others.",
        set: |config, values| label(values).map(|value| config.operator = value),
        show: |config| vec![config.operator.clone()],
    },
    Setting {
        name: "domains",
        unit: "lan or strict",
        default: &["lan"],
        many: false,
        help: "lan: each machine of one network counts as a replica; strict: they count as one.",
        set: |config, values| domains(values).map(|value| config.domains = value),
        show: |config| {
            vec![match config.domains {
                Domains::Lan => "lan".to_owned(),
                Domains::Strict => "strict".to_owned(),
            }]
        },
    },
];

/// The setting of this name.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// The setting whose name comes nearest, if any is near enough to be meant.
pub fn nearest(name: &str) -> Option<&'static Setting> {
    let name = name.to_lowercase().replace('-', "_");
    let distance = |setting: &&Setting| strsim::damerau_levenshtein(setting.name, &name);
    let near = SETTINGS.iter().min_by_key(distance)?;
    (distance(&near) <= name.len().max(near.name.len()) / 3).then_some(near)
}

pub(super) fn one(values: &[String]) -> Result<&str, String> {
    match values {
        [value] => Ok(value.as_str()),
        _ => Err(format!("it takes one value, and {} were given", values.len())),
    }
}

/// Nothing has more than `most` of these.
pub(super) fn within(count: usize, most: usize, of: &str) -> Result<(), String> {
    if count > most {
        return Err(format!("it has {count} {of}, the limit is {most}"));
    }
    Ok(())
}

pub(super) fn switch(values: &[String]) -> Result<bool, String> {
    match one(values)? {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("it is `on` or `off`".to_owned()),
    }
}

pub(super) fn on_off(value: bool) -> String {
    if value { "on" } else { "off" }.to_owned()
}

fn capacity(values: &[String]) -> Result<u64, String> {
    size::parse(one(values)?).map_err(|error| error.to_string())
}

fn size_or_auto(values: &[String]) -> Result<Option<u64>, String> {
    match one(values)? {
        "auto" => Ok(None),
        text => size::parse(text).map(Some).map_err(|error| error.to_string()),
    }
}

/// Nothing at all would leave what is short to the next thing that breaks.
fn size_or_unlimited(values: &[String]) -> Result<Option<u64>, String> {
    match one(values)? {
        "unlimited" => Ok(None),
        text => match size::parse(text) {
            Ok(size) if size >= REPAIR_MIN => Ok(Some(size)),
            Ok(_) => Err("it is 100MB at least: else what is short stays short".to_owned()),
            Err(error) => Err(error.to_string()),
        },
    }
}

/// All is promised to be read within 30 days.
fn scrub_days(values: &[String]) -> Result<u32, String> {
    let days = one(values)?.parse().ok().filter(|days| (1..=30).contains(days));
    days.ok_or_else(|| "it is a number of days from 1 to 30".to_owned())
}

fn domains(values: &[String]) -> Result<Domains, String> {
    match one(values)? {
        "lan" => Ok(Domains::Lan),
        "strict" => Ok(Domains::Strict),
        _ => Err("it is `lan` or `strict`".to_owned()),
    }
}

fn mesh(values: &[String]) -> Result<String, String> {
    match text(values, MESH_BYTES_MAX)? {
        name if name.is_empty() => Err("a mesh has a name".to_owned()),
        name => Ok(name),
    }
}

fn label(values: &[String]) -> Result<String, String> {
    text(values, LABEL_BYTES_MAX)
}

fn text(values: &[String], bytes_max: usize) -> Result<String, String> {
    let value = one(values)?;
    within(value.len(), bytes_max, "bytes")?;
    if value.chars().any(char::is_control) {
        return Err("it holds a control character".to_owned());
    }
    Ok(value.to_owned())
}

fn addresses(values: &[String]) -> Result<Vec<String>, String> {
    within(values.len(), ADDRESSES_MAX, "addresses")?;
    values.iter().map(|value| address(value)).collect()
}

/// Only the outline is checked here; the network layer, which knows every protocol, has the last
/// word when it listens or dials.
fn address(value: &str) -> Result<String, String> {
    let mut parts = value.split('/');
    let (before, kind, host) = (parts.next(), parts.next(), parts.next());
    let known = match (kind, host) {
        (Some("ip4"), Some(host)) => host.parse::<std::net::Ipv4Addr>().is_ok(),
        (Some("ip6"), Some(host)) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        (Some("dns" | "dns4" | "dns6" | "dnsaddr"), Some(host)) => !host.is_empty(),
        _ => false,
    };
    if before == Some("") && known && !value.chars().any(char::is_whitespace) {
        return Ok(value.to_owned());
    }
    Err("an address looks like /ip4/192.168.1.5/tcp/4747, with /p2p/PEERID behind it to join \
         through a node"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_shows_what_it_takes() {
        let config = Config::default();
        for setting in &SETTINGS {
            let shown = (setting.show)(&config);
            assert_eq!(shown, setting.default, "{}", setting.name);
            assert!(setting.help.ends_with('.') && !setting.help.contains('\n'));
        }
    }

    #[test]
    fn addresses_with_the_wrong_outline_are_refused() {
        for good in ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/udp/1/quic-v1", "/dns/nas.example/tcp/1"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in ["", "127.0.0.1:80", "/ip4/300.0.0.1/tcp/0", "/ip4/::1/tcp/0", "/dns//tcp/1"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_are_bounded_and_printable() {
        let label = |text: &str| label(&[text.to_owned()]);
        assert!(label(&"x".repeat(32)).is_ok());
        assert!(label(&"x".repeat(33)).is_err());
        assert!(label("a\u{1b}[31m").is_err());
        assert!(mesh(&[String::new()]).is_err());
    }

    #[test]
    fn the_scrub_has_a_day_at_least_and_what_was_promised_at_most() {
        let days = |text: &str| scrub_days(&[text.to_owned()]);
        assert_eq!((days("1"), days("30")), (Ok(1), Ok(30)));
        for bad in ["", "0", "31", "-1", "7.5", "15d"] {
            assert!(days(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn repairs_have_a_few_chunks_a_day_at_least() {
        let bound = |text: &str| size_or_unlimited(&[text.to_owned()]);
        assert_eq!(bound("unlimited"), Ok(None));
        assert_eq!(bound("100MB"), Ok(Some(100_000_000)));
        assert_eq!(bound("2TB"), Ok(Some(2_000_000_000_000)));
        for bad in ["", "0", "99MB", "auto", "none"] {
            assert!(bound(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nearest_needs_a_near_name() {
        assert_eq!(nearest("capacty").map(|s| s.name), Some("capacity"));
        assert_eq!(nearest("lan-only").map(|s| s.name), Some("lan_only"));
        assert!(nearest("colour_of_the_sky").is_none());
    }
}
