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

/// Most addresses in one list; more is a mistake.
const ADDRESSES_MAX: usize = 64;

/// Every setting, in the order in which they are shown.
pub static SETTINGS: [Setting; 11] = [
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

fn one(values: &[String]) -> Result<&str, String> {
    match values {
        [value] => Ok(value.as_str()),
        _ => Err(format!("it takes one value, and {} were given", values.len())),
    }
}

fn switch(values: &[String]) -> Result<bool, String> {
    match one(values)? {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("it is `on` or `off`".to_owned()),
    }
}

fn on_off(value: bool) -> String {
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
    if value.len() > bytes_max {
        return Err(format!("it is {} bytes long, the limit is {bytes_max}", value.len()));
    }
    if value.chars().any(char::is_control) {
        return Err("it holds a control character".to_owned());
    }
    Ok(value.to_owned())
}

fn addresses(values: &[String]) -> Result<Vec<String>, String> {
    if values.len() > ADDRESSES_MAX {
        return Err(format!("it has {} addresses, the limit is {ADDRESSES_MAX}", values.len()));
    }
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
    fn nearest_needs_a_near_name() {
        assert_eq!(nearest("capacty").map(|s| s.name), Some("capacity"));
        assert_eq!(nearest("lan-only").map(|s| s.name), Some("lan_only"));
        assert!(nearest("colour_of_the_sky").is_none());
    }
}
