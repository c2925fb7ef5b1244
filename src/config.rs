//! Settings: defaults, then `quloud.toml` in the data folder, then `QULOUD_...`, then flags.
//!
//! Parsed once, before anything starts; whoever needs a setting is handed the [`Config`]. The
//! table of settings is in [`setting`]; `quloud config show` prints it with the effective values.
//! An unknown name is an error wherever it stands, so that a slip never goes unnoticed. Backups
//! that the node makes by itself are tables of the file: see [`backup`].

pub mod backup;
pub mod every;
pub mod setting;
pub mod size;

use crate::node::report::{Failure, FailureKind};
use backup::ConfiguredBackup;
use serde::Serialize;
use setting::{SETTINGS, Setting};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Name of the settings file in the data folder.
pub const FILE_NAME: &str = "quloud.toml";

/// Before a setting's name in the environment.
const ENV_PREFIX: &str = "QULOUD_";

/// Variables with the prefix that are flags of the command line rather than settings.
const ENV_OTHER: [&str; 3] = ["QULOUD_DIR", "QULOUD_LOG", "QULOUD_PASSPHRASE_FILE"];

/// A settings file is a page of text; anything larger is a mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The effective settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Addresses to listen on, as multiaddresses; empty = every interface, any free port.
    pub listen: Vec<String>,
    /// Addresses of nodes to join through, as multiaddresses; may be empty.
    pub bootstrap: Vec<String>,
    /// Whether to look for nodes on the local network.
    pub mdns: bool,
    /// Whether to talk to loopback, private and link-local addresses only.
    pub lan_only: bool,
    /// Name of the mesh, 1 to 64 bytes.
    pub mesh: String,
    /// Bytes given to others.
    pub capacity: u64,
    /// Bytes that one owner may have of them; `None` = half of the capacity.
    pub account_quota: Option<u64>,
    /// Bytes of the disk to leave free; `None` leaves it to the store.
    pub reserve: Option<u64>,
    /// Within how many days all that is kept for others is read once.
    pub scrub_days: u32,
    /// Bytes that repairs that nobody asked for may move in any 24 hours; `None` = no bound.
    pub repair_per_day: Option<u64>,
    /// Where the node stands, at most 32 bytes; empty where undeclared.
    pub site: String,
    /// Who runs the node, at most 32 bytes; empty where undeclared.
    pub operator: String,
    /// How replicas on one local network count.
    pub domains: Domains,
    /// Backups that the node makes by itself.
    pub backups: Vec<ConfiguredBackup>,
}

/// How replicas on one local network count as failure domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domains {
    /// Each machine is one, unless it declares a site.
    Lan,
    /// The whole network is one.
    Strict,
}

/// Where a value came from; later ones win.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody said otherwise.
    Default,
    /// The settings file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// What the command line says: flag and values, in any order. The flag names the setting
/// (`--lan-only` is `lan_only`).
pub type Flags = Vec<(&'static str, Vec<String>)>;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there and cannot be read.
    #[error("{path} cannot be read", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not valid TOML", path = path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Where and what is wrong.
        why: String,
    },
    /// There is no such setting.
    #[error("there is no setting `{key}`")]
    Unknown {
        /// As it was written.
        key: String,
        /// Where it was written.
        origin: Origin,
        /// The setting whose name comes nearest, spelled as this origin spells it.
        nearest: Option<String>,
    },
    /// It is a setting of the node, and stands in the table of a backup.
    #[error("`{key}` stands below [[backup]]")]
    Misplaced {
        /// As it was written.
        key: String,
        /// Where it was written.
        origin: Origin,
    },
    /// The value cannot be used.
    #[error("`{key}` cannot be {value:?}")]
    Value {
        /// The setting.
        key: &'static str,
        /// As it was written.
        value: String,
        /// Where it was written.
        origin: Origin,
        /// What is wrong with it and what would be right.
        why: String,
    },
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let what = error.to_string();
        let (why, hint) = match error {
            ConfigError::Unreadable { source, .. } => {
                (source.to_string(), "make the file readable for this user, or remove it".into())
            }
            ConfigError::NotToml { why, .. } => {
                (why, "correct the line, then run `quloud config check`".into())
            }
            ConfigError::Unknown { origin, nearest, .. } => {
                let hint = match nearest {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => "`quloud config show` lists every setting".into(),
                };
                (format!("it was set in {origin}"), hint)
            }
            ConfigError::Misplaced { origin, .. } => (
                format!("it is a setting of the node, and was set in {origin} as one of a backup"),
                "write it above the first [[backup]]".into(),
            ),
            ConfigError::Value { why, origin, .. } => (
                why,
                format!("correct it in {origin}; `quloud config show` explains every setting"),
            ),
        };
        Self { kind: FailureKind::Usage, what, why, hint }
    }
}

/// The effective settings together with where each came from.
#[derive(Debug, Clone, Default)]
pub struct Effective {
    /// The settings.
    pub config: Config,
    origins: BTreeMap<&'static str, Origin>,
}

/// One line of `quloud config show`.
#[derive(Debug, Clone, Serialize)]
pub struct SettingReport {
    /// Its name.
    pub name: &'static str,
    /// The effective value; several for a list.
    pub value: Vec<String>,
    /// What the value is counted or written in.
    pub unit: &'static str,
    /// Its default.
    pub default: Vec<&'static str>,
    /// Where the value came from.
    pub origin: String,
    /// One line of help.
    pub help: &'static str,
}

/// An error of the parser in one line, beginning with its place in `text`.
fn where_and_what(text: &str, error: &toml::de::Error) -> String {
    let what = error.message().trim_end().replace('\n', "; ");
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return what };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: {what}")
}

impl Effective {
    /// Reads all sources: the file in `data_dir` if there is one, `environment` (all of it; other
    /// programs' variables are ignored) and the command line.
    ///
    /// # Errors
    /// The first source that cannot be used.
    pub fn load(
        data_dir: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: Flags,
    ) -> Result<Self, ConfigError> {
        let mut effective = Self::default();
        effective.apply_file(&data_dir.join(FILE_NAME))?;
        effective.apply_environment(environment)?;
        for (flag, values) in flags {
            let name = flag.trim_start_matches('-').replace('-', "_");
            effective.apply(&name, flag, values, Origin::Flag(flag))?;
        }
        Ok(effective)
    }

    /// Whether nobody said anything about this setting.
    pub fn is_default(&self, name: &str) -> bool {
        !self.origins.contains_key(name)
    }

    /// Every setting with its effective value, in the order of the table.
    pub fn report(&self) -> Vec<SettingReport> {
        let line = |setting: &Setting| SettingReport {
            name: setting.name,
            value: (setting.show)(&self.config),
            unit: setting.unit,
            default: setting.default.to_vec(),
            origin: self.origins.get(setting.name).unwrap_or(&Origin::Default).to_string(),
            help: setting.help,
        };
        SETTINGS.iter().map(line).collect()
    }

    fn apply_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(error)),
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                return Err(unreadable(std::io::ErrorKind::FileTooLarge.into()));
            }
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            ConfigError::NotToml { path: path.to_owned(), why: where_and_what(&text, &error) }
        })?;
        for (key, value) in table {
            let origin = Origin::File(path.to_owned());
            if key == backup::TABLE {
                self.config.backups = backup::read(&value, &origin)?;
                continue;
            }
            let Some(values) = plain_values(&value) else {
                return Err(unknown_table(&key, origin));
            };
            self.apply(&key, &key, values, origin)?;
        }
        Ok(())
    }

    fn apply_environment(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (variable, value) in environment {
            let Some(name) = variable.strip_prefix(ENV_PREFIX) else { continue };
            if ENV_OTHER.contains(&variable.as_str()) {
                continue;
            }
            let name = name.to_lowercase();
            let many = setting::find(&name).is_some_and(|setting| setting.many);
            let values = match many {
                true => value.split([',', ' ']).filter(|s| !s.is_empty()).map(Into::into).collect(),
                false => vec![value],
            };
            self.apply(&name, &variable, values, Origin::Environment(variable.clone()))?;
        }
        Ok(())
    }

    fn apply(
        &mut self,
        name: &str,
        written: &str,
        values: Vec<String>,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        let Some(setting) = setting::find(name) else {
            let nearest = setting::nearest(name).map(|setting| match origin {
                Origin::Environment(_) => {
                    format!("{ENV_PREFIX}{}", setting.name.to_uppercase())
                }
                _ => setting.name.to_owned(),
            });
            return Err(ConfigError::Unknown { key: written.to_owned(), origin, nearest });
        };
        (setting.set)(&mut self.config, &values).map_err(|why| ConfigError::Value {
            key: setting.name,
            value: values.join(", "),
            origin: origin.clone(),
            why,
        })?;
        self.origins.insert(setting.name, origin);
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        let mut config = Self {
            listen: Vec::new(),
            bootstrap: Vec::new(),
            mdns: true,
            lan_only: false,
            mesh: String::new(),
            capacity: 0,
            scrub_days: 0,
            account_quota: None,
            reserve: None,
            repair_per_day: None,
            site: String::new(),
            operator: String::new(),
            domains: Domains::Lan,
            backups: Vec::new(),
        };
        for setting in &SETTINGS {
            let values: Vec<String> = setting.default.iter().map(|&v| v.to_owned()).collect();
            (setting.set)(&mut config, &values).expect("the tests parse every default");
        }
        config
    }
}

/// No setting is a table, but for those of backups.
fn unknown_table(key: &str, origin: Origin) -> ConfigError {
    let nearest = match strsim::damerau_levenshtein(key, backup::TABLE) {
        0..=2 => Some(format!("[[{}]]", backup::TABLE)),
        _ => setting::nearest(key).map(|setting| setting.name.to_owned()),
    };
    ConfigError::Unknown { key: format!("[{key}]"), origin, nearest }
}

/// A TOML value as the texts that a flag would have carried; `None` for a table, as no setting is.
fn plain_values(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::Array(items) => {
            let lists: Option<Vec<_>> = items.iter().map(plain_values).collect();
            Some(lists?.concat())
        }
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Table(_) => None,
        other => Some(vec![other.to_string()]),
    }
}

/// What `quloud init` writes: every setting, commented out, with its help.
pub fn template() -> String {
    let mut text = String::from(
        "# Settings of this Quloud node. Flags win over QULOUD_<NAME> in the environment,\n\
         # which wins over this file. `quloud config check` reads it, and `config show`\n\
         # explains it.\n",
    );
    for setting in &SETTINGS {
        let quote = |value: &&str| format!("{value:?}");
        let quoted: Vec<String> = setting.default.iter().map(quote).collect();
        let value = match setting.many {
            true => format!("[{}]", quoted.join(", ")),
            false => quoted.concat(),
        };
        let Setting { name, unit, help, .. } = setting;
        text.push_str(&format!("\n# {help}\n# ({unit})\n#{name} = {value}\n"));
    }
    text + &backup::example()
}

/// As [`template`], for a node of this mesh.
pub fn template_of(mesh: &str) -> String {
    let open = |setting: &Setting| format!("#{} = {:?}", setting.name, setting.default.concat());
    let Some(line) = setting::find("mesh").map(open) else { return template() };
    let value = toml::Value::String(mesh.to_owned());
    template().replace(&format!("\n{line}\n"), &format!("\nmesh = {value}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, env: &[(&str, &str)], flags: Flags) -> Result<Effective, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), file).unwrap();
        let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        Effective::load(folder.path(), env, flags)
    }

    #[test]
    fn later_sources_win_and_are_named() {
        let env = [("QULOUD_MESH", "from-env"), ("QULOUD_SITE", "attic"), ("PATH", "/bin")];
        let file = "mesh = \"from-file\"\nsite = \"cellar\"\noperator = \"me\"\n";
        let flags = vec![("--mesh", vec!["from-flag".to_owned()])];
        let effective = load(file, &env, flags).unwrap();
        assert_eq!(effective.config.mesh, "from-flag");
        assert_eq!(effective.config.site, "attic");
        assert_eq!(effective.config.operator, "me");
        let origin = |name: &str| {
            effective.report().into_iter().find(|line| line.name == name).unwrap().origin
        };
        assert_eq!(origin("mesh"), "--mesh");
        assert_eq!(origin("site"), "QULOUD_SITE");
        assert!(origin("operator").ends_with(FILE_NAME));
        assert_eq!(origin("capacity"), "default");
    }

    #[test]
    fn file_takes_lists_numbers_and_switches() {
        let file = "listen = [\"/ip4/127.0.0.1/tcp/0\", \"/ip6/::1/tcp/0\"]\n\
                    capacity = 5000000000\nmdns = false\nlan_only = \"on\"\n";
        let config = load(file, &[], Vec::new()).unwrap().config;
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.capacity, 5_000_000_000);
        assert!(!config.mdns);
        assert!(config.lan_only);
    }

    #[test]
    fn environment_lists_are_split() {
        let env = [("QULOUD_BOOTSTRAP", "/ip4/10.0.0.1/tcp/1,/ip4/10.0.0.2/tcp/1")];
        assert_eq!(load("", &env, Vec::new()).unwrap().config.bootstrap.len(), 2);
    }

    #[test]
    fn unknown_names_suggest_the_nearest_setting() {
        let failure = Failure::from(load("capcity = 1\n", &[], Vec::new()).unwrap_err());
        assert_eq!(failure.kind, FailureKind::Usage);
        assert_eq!(failure.hint, "did you mean `capacity`?");
        let failure = Failure::from(load("", &[("QULOUD_MESS", "x")], Vec::new()).unwrap_err());
        assert_eq!(failure.hint, "did you mean `QULOUD_MESH`?");
        let failure = Failure::from(load("weather = 1\n", &[], Vec::new()).unwrap_err());
        assert!(failure.hint.contains("config show"));
    }

    #[test]
    fn bad_values_say_where_and_why() {
        let error = load("capacity = \"lots\"\n", &[], Vec::new()).unwrap_err();
        let ConfigError::Value { key, why, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*key, "capacity");
        assert!(why.contains("500GB"), "{why}");
        assert!(Failure::from(error).hint.contains(FILE_NAME));
        assert!(matches!(load("a = = 1", &[], Vec::new()), Err(ConfigError::NotToml { .. })));
        assert!(load("mesh = [\"a\", \"b\"]\n", &[], Vec::new()).is_err());
        assert!(load("[mesh]\nname = 1\n", &[], Vec::new()).is_err());
    }

    #[test]
    fn template_uncommented_is_the_defaults() {
        let template = template();
        let open: Vec<&str> = template
            .lines()
            .map(|line| line.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(""))
            .collect();
        let effective = load(&open.join("\n"), &[], Vec::new()).unwrap();
        assert_eq!(effective.config, Config::default());
        assert_eq!(load(&template, &[], Vec::new()).unwrap().config, Config::default());
    }

    #[test]
    fn template_of_a_mesh_says_its_name_and_nothing_else() {
        for mesh in ["family", "quloud", "a \"b\" \\ 'c'", "#x = 1", "ü"] {
            let read = load(&template_of(mesh), &[], Vec::new()).unwrap();
            assert_eq!(read.config, Config { mesh: mesh.to_owned(), ..Config::default() });
        }
    }
}
