//! The backups that the node makes by itself: tables `[[backup]]` in the settings file.
//!
//! They stand in the file alone: no flag and no variable of the environment makes one. What is
//! wrong with one is told as of any other setting.

use super::every::Every;
use super::{ConfigError, Origin, plain_values, setting};
use crate::node::report::ScheduledBackup;
use std::collections::BTreeSet;
use std::path::{Component, PathBuf};

/// Name of the tables.
pub(super) const TABLE: &str = "backup";

/// Configured backups that there can be.
pub const BACKUPS_MAX: usize = 64;

/// Longest name of one, in bytes.
const NAME_BYTES_MAX: usize = 32;

/// Most paths, and patterns, of one.
const LIST_MAX: usize = 256;

/// Replicas where nobody says otherwise, as `quloud backup` has it.
const REPLICAS: u8 = 3;

/// Most replicas: [`crate::core::codec::QUORUM_MAX`], which settings do not see.
const REPLICAS_MAX: u8 = 32;

/// A backup that the node makes by itself, or on `quloud backup --name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredBackup {
    /// Its name, 1 to 32 bytes: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What is backed up: absolute paths, without `..`; one at least.
    pub paths: Vec<PathBuf>,
    /// How often.
    pub every: Every,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Files of such patterns: absolute paths. Read when it runs.
    pub exclude_file: Vec<PathBuf>,
    /// Whether folders that are marked as caches are left out.
    pub exclude_caches: bool,
    /// Whether it stays in the file system of each path.
    pub one_file_system: bool,
    /// How many nodes shall hold each chunk, 1 to 32.
    pub replicas: u8,
    /// Labels of its snapshots.
    pub tag: Vec<String>,
    /// How often holders prove what its newest snapshot names. A running node has each replica
    /// proven within 30 days in any case, so `monthly` and more ask for nothing beyond that.
    pub audit: Every,
    /// How often a sample of its newest snapshot is read back from its holders.
    pub drill: Every,
}

/// One setting of a configured backup.
struct Key {
    name: &'static str,
    help: &'static str,
    set: Set,
    show: Show,
}

/// Parses the texts into the backup; the error says what would be right.
type Set = fn(&mut ConfiguredBackup, &[String]) -> Result<(), String>;

/// The value as text, as [`Set`] would take it.
enum Show {
    One(fn(&ConfiguredBackup) -> String),
    Many(fn(&ConfiguredBackup) -> Vec<String>),
}

impl Key {
    /// Takes one value.
    const fn one(
        name: &'static str,
        help: &'static str,
        set: Set,
        show: fn(&ConfiguredBackup) -> String,
    ) -> Self {
        Self { name, help, set, show: Show::One(show) }
    }

    /// Takes a list.
    const fn many(
        name: &'static str,
        help: &'static str,
        set: Set,
        show: fn(&ConfiguredBackup) -> Vec<String>,
    ) -> Self {
        Self { name, help, set, show: Show::Many(show) }
    }

    fn is_many(&self) -> bool {
        matches!(self.show, Show::Many(_))
    }

    fn values(&self, backup: &ConfiguredBackup) -> Vec<String> {
        match self.show {
            Show::One(show) => vec![show(backup)],
            Show::Many(show) => show(backup),
        }
    }
}

/// Every one, in the order in which they are shown.
static KEYS: [Key; 11] = [
    Key::one(
        "name",
        "what it is called, 1 to 32 letters, digits, - _ and .",
        |backup, values| name(values).map(|value| backup.name = value),
        |backup| backup.name.clone(),
    ),
    Key::many(
        "paths",
        "what is backed up, as absolute paths",
        |backup, values| some(absolute(values)?).map(|value| backup.paths = value),
        |backup| shown(&backup.paths),
    ),
    Key::one(
        "every",
        "hourly, daily, weekly, monthly, never, or a duration such as 6h",
        |backup, values| every(values).map(|value| backup.every = value),
        |backup| backup.every.to_string(),
    ),
    Key::many(
        "exclude",
        "patterns of what is left out, as in a .gitignore",
        |backup, values| patterns(values).map(|value| backup.exclude = value),
        |backup| backup.exclude.clone(),
    ),
    Key::many(
        "exclude_file",
        "files of such patterns, as absolute paths",
        |backup, values| absolute(values).map(|value| backup.exclude_file = value),
        |backup| shown(&backup.exclude_file),
    ),
    Key::one(
        "exclude_caches",
        "on leaves out folders that a CACHEDIR.TAG marks",
        |backup, values| setting::switch(values).map(|value| backup.exclude_caches = value),
        |backup| setting::on_off(backup.exclude_caches),
    ),
    Key::one(
        "one_file_system",
        "on stays in the file system of each path",
        |backup, values| setting::switch(values).map(|value| backup.one_file_system = value),
        |backup| setting::on_off(backup.one_file_system),
    ),
    Key::one(
        "replicas",
        "how many nodes shall hold each chunk, 1 to 32",
        |backup, values| replicas(values).map(|value| backup.replicas = value),
        |backup| backup.replicas.to_string(),
    ),
    Key::many(
        "tag",
        "labels of its snapshots",
        |backup, values| tags(values).map(|value| backup.tag = value),
        |backup| backup.tag.clone(),
    ),
    Key::one(
        "audit",
        "how often holders prove what its newest snapshot names; monthly in any case",
        |backup, values| every(values).map(|value| backup.audit = value),
        |backup| backup.audit.to_string(),
    ),
    Key::one(
        "drill",
        "how often a sample is read back from the holders: weekly, monthly, never, ..",
        |backup, values| every(values).map(|value| backup.drill = value),
        |backup| backup.drill.to_string(),
    ),
];

/// One setting of a configured backup, for `quloud config show`.
#[derive(Debug, Clone)]
pub struct BackupSetting {
    /// Its name.
    pub name: &'static str,
    /// The effective value; several, or none, for a list.
    pub value: Vec<String>,
    /// Whether it is a list.
    pub many: bool,
}

impl ConfiguredBackup {
    /// Nothing yet but the defaults.
    fn unnamed() -> Self {
        Self {
            name: String::new(),
            paths: Vec::new(),
            every: Every::DAILY,
            exclude: Vec::new(),
            exclude_file: Vec::new(),
            exclude_caches: false,
            one_file_system: false,
            replicas: REPLICAS,
            tag: Vec::new(),
            audit: Every::MONTHLY,
            drill: Every::MONTHLY,
        }
    }

    /// A daily one of these paths, with the defaults.
    pub fn new(name: &str, paths: Vec<PathBuf>) -> Self {
        Self { name: name.to_owned(), paths, ..Self::unnamed() }
    }

    /// Its settings, as they are.
    pub fn report(&self) -> Vec<BackupSetting> {
        let line = |key: &Key| BackupSetting {
            name: key.name,
            value: key.values(self),
            many: key.is_many(),
        };
        KEYS.iter().map(line).collect()
    }
}

/// Reads the tables of a file.
///
/// # Errors
/// The first thing that is wrong.
pub(super) fn read(
    value: &toml::Value,
    origin: &Origin,
) -> Result<Vec<ConfiguredBackup>, ConfigError> {
    let wrong = |value: String, why: &str| ConfigError::Value {
        key: TABLE,
        value,
        origin: origin.clone(),
        why: why.to_owned(),
    };
    let no_tables = "each backup is a table of its own, headed by [[backup]]";
    let toml::Value::Array(items) = value else {
        return Err(wrong(short(value), no_tables));
    };
    if items.len() > BACKUPS_MAX {
        return Err(wrong(items.len().to_string(), "there can be 64 of them at most"));
    }
    let mut backups: Vec<ConfiguredBackup> = Vec::new();
    for item in items {
        let toml::Value::Table(table) = item else { return Err(wrong(short(item), no_tables)) };
        let backup = one(table, origin)?;
        if backups.iter().any(|before| before.name == backup.name) {
            return Err(wrong(backup.name, "two backups have that name"));
        }
        backups.push(backup);
    }
    Ok(backups)
}

fn one(table: &toml::Table, origin: &Origin) -> Result<ConfiguredBackup, ConfigError> {
    let mut backup = ConfiguredBackup::unnamed();
    let mut given = BTreeSet::new();
    let called = table.get("name").and_then(toml::Value::as_str).unwrap_or("?").to_owned();
    let wrong = |key: &'static str, value: String, why: String| ConfigError::Value {
        key,
        value,
        origin: origin.clone(),
        why: format!("in the backup {called:?}: {why}"),
    };
    for (written, value) in table {
        let name = written.replace('-', "_");
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            return Err(unknown(written, &name, origin));
        };
        let values = plain_values(value)
            .ok_or_else(|| wrong(key.name, short(value), "it is no table".to_owned()))?;
        (key.set)(&mut backup, &values).map_err(|why| wrong(key.name, values.join(", "), why))?;
        if !given.insert(key.name) {
            return Err(wrong(key.name, values.join(", "), "it is given twice".to_owned()));
        }
    }
    for needed in ["name", "paths"] {
        if !given.contains(needed) {
            let why = format!("it has no `{needed}`");
            return Err(wrong(TABLE, called.clone(), why));
        }
    }
    Ok(backup)
}

/// A setting of the node that was written below a table belongs to the table: that is TOML.
fn unknown(written: &str, name: &str, origin: &Origin) -> ConfigError {
    let (key, origin) = (format!("{TABLE}.{written}"), origin.clone());
    if setting::find(name).is_some() {
        return ConfigError::Misplaced { key: written.to_owned(), origin };
    }
    let distance = |key: &&Key| strsim::damerau_levenshtein(key.name, name);
    let near = KEYS.iter().min_by_key(distance);
    let near = near.filter(|key| distance(key) <= name.len().max(key.name.len()) / 3);
    ConfigError::Unknown { key, origin, nearest: near.map(|key| key.name.to_owned()) }
}

fn short(value: &toml::Value) -> String {
    value.to_string().chars().take(64).collect()
}

fn name(values: &[String]) -> Result<String, String> {
    let name = setting::one(values)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        return Err("a name has 1 to 32 letters, digits, - _ and .".to_owned());
    }
    Ok(name.to_owned())
}

fn every(values: &[String]) -> Result<Every, String> {
    Every::parse(setting::one(values)?)
}

fn replicas(values: &[String]) -> Result<u8, String> {
    let replicas = setting::one(values)?.parse().ok();
    let replicas = replicas.filter(|replicas| (1..=REPLICAS_MAX).contains(replicas));
    replicas.ok_or_else(|| "it is a number from 1 to 32".to_owned())
}

fn list(values: &[String]) -> Result<Vec<String>, String> {
    setting::within(values.len(), LIST_MAX, "entries")?;
    if values.iter().any(String::is_empty) {
        return Err("one of them is empty".to_owned());
    }
    Ok(values.to_vec())
}

/// What no backup could have is refused now, not at the first run.
fn patterns(values: &[String]) -> Result<Vec<String>, String> {
    let patterns = list(values)?;
    ScheduledBackup::excludes(&[], &patterns).map(|_| patterns)
}

fn tags(values: &[String]) -> Result<Vec<String>, String> {
    let tags = list(values)?;
    ScheduledBackup::check_tags(&tags).map(|()| tags)
}

/// Whoever runs the node has another home, and another working folder, than whoever wrote this.
fn absolute(values: &[String]) -> Result<Vec<PathBuf>, String> {
    let paths: Vec<PathBuf> = list(values)?.into_iter().map(PathBuf::from).collect();
    let climbs = |path: &PathBuf| path.components().any(|part| part == Component::ParentDir);
    match paths.iter().find(|path| !path.is_absolute() || climbs(path)) {
        Some(path) => Err(format!("{} is not an absolute path without ..", path.display())),
        None => Ok(paths),
    }
}

fn some(paths: Vec<PathBuf>) -> Result<Vec<PathBuf>, String> {
    if paths.is_empty() { Err("it needs a path".to_owned()) } else { Ok(paths) }
}

fn shown(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}

/// An example for the settings file, as comments.
pub(super) fn example() -> String {
    let mut text = String::from(
        "\n# Backups that a running node makes by itself; also `quloud backup --name photos`. Any\n\
         # number of them, and always at the end of this file.\n# [[backup]]\n",
    );
    let example = ConfiguredBackup {
        audit: Every::WEEKLY,
        exclude: vec!["*.tmp".to_owned()],
        ..ConfiguredBackup::new("photos", vec![PathBuf::from("/srv/photos")])
    };
    for key in &KEYS {
        let values = key.values(&example);
        let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        let value = match key.name {
            "replicas" => values.concat(),
            _ if key.is_many() => format!("[{}]", quoted.join(", ")),
            _ => quoted.concat(),
        };
        let setting = format!("{} = {value}", key.name);
        text.push_str(&format!("# {setting:<26} # {}\n", key.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Effective, FILE_NAME};
    use super::*;
    use crate::node::report::Failure;

    fn load(file: &str) -> Result<Vec<ConfiguredBackup>, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), file).unwrap();
        Effective::load(folder.path(), [], Vec::new()).map(|it| it.config.backups)
    }

    fn refused(file: &str) -> Failure {
        Failure::from(load(file).unwrap_err())
    }

    #[test]
    fn a_table_is_a_backup_with_what_it_does_not_say_at_its_default() {
        let file = "mesh = \"m\"\n[[backup]]\nname = \"photos\"\npaths = [\"/a\", \"/b c\"]\n\
                    every = \"6h\"\nexclude-file = \"/etc/x\"\nreplicas = 2\naudit = \"hourly\"\n\
                    [[backup]]\nname = \"etc\"\npaths = \"/etc\"\nexclude_caches = true\n\
                    drill = \"never\"\n";
        let [photos, etc] = load(file).unwrap().try_into().unwrap();
        let paths = vec![PathBuf::from("/a"), PathBuf::from("/b c")];
        let wanted = ConfiguredBackup {
            every: Every::Seconds(6 * 3_600),
            exclude_file: vec![PathBuf::from("/etc/x")],
            replicas: 2,
            audit: Every::HOURLY,
            ..ConfiguredBackup::new("photos", paths)
        };
        assert_eq!(photos, wanted);
        let wanted = ConfiguredBackup {
            exclude_caches: true,
            drill: Every::Never,
            ..ConfiguredBackup::new("etc", vec![PathBuf::from("/etc")])
        };
        assert_eq!(etc, wanted);
        assert_eq!((etc.every, etc.replicas, etc.audit), (Every::DAILY, 3, Every::MONTHLY));
    }

    #[test]
    fn unknown_keys_suggest_the_nearest_and_settings_of_the_node_are_sent_above() {
        let backup = "[[backup]]\nname = \"a\"\npaths = [\"/a\"]\n";
        let failure = refused(&format!("{backup}evry = \"daily\"\n"));
        assert_eq!(failure.what, "there is no setting `backup.evry`");
        assert_eq!(failure.hint, "did you mean `every`?");
        let failure = refused(&format!("{backup}capacity = \"1GB\"\n"));
        assert!(failure.hint.contains("above the first [[backup]]"), "{failure:?}");
        assert!(refused(&format!("{backup}weather = 1\n")).hint.contains("config show"));
        assert_eq!(refused("[[bakup]]\nname = \"a\"\n").hint, "did you mean `[[backup]]`?");
    }

    #[test]
    fn what_is_wrong_with_a_backup_is_told_with_its_name() {
        for (line, part) in [
            ("every = \"sometimes\"", "hourly, daily"),
            ("every = \"1m\"", "10 minutes"),
            ("replicas = 0", "from 1 to 32"),
            ("exclude = [\"\"]", "empty"),
            ("exclude_file = \"x\"", "not an absolute path"),
            ("exclude = [\"*.tmp\", \"a[b\"]", "\"a[b\" cannot match anything"),
            (&format!("exclude = {:?}", vec!["x".repeat(4_000); 11]), "no snapshot can record"),
            (&format!("tag = {:?}", "t".repeat(256)), "1 to 255 bytes"),
            (&format!("tag = {:?}", vec!["t".repeat(200); 40]), "6 KiB in all"),
            ("one_file_system = \"perhaps\"", "`on` or `off`"),
            ("audit = { every = 1 }", "no table"),
            ("exclude_caches = true\nexclude-caches = true", "twice"),
        ] {
            let failure = refused(&format!("[[backup]]\nname = \"a1\"\npaths = \"/a\"\n{line}\n"));
            assert!(failure.why.contains("\"a1\"") && failure.why.contains(part), "{failure:?}");
        }
        for (file, part) in [
            ("[[backup]]\npaths = \"/a\"\n", "no `name`"),
            ("[[backup]]\nname = \"a\"\n", "no `paths`"),
            ("[[backup]]\nname = \"a b\"\npaths = \"/a\"\n", "letters, digits"),
            ("[[backup]]\nname = \"a\"\npaths = \"~/a\"\n", "absolute"),
            ("[[backup]]\nname = \"a\"\npaths = \"/a/../b\"\n", "absolute"),
            ("[[backup]]\nname = \"a\"\npaths = []\n", "needs a path"),
            ("[backup]\nname = \"a\"\npaths = \"/a\"\n", "[[backup]]"),
            ("backup = \"/a\"\n", "[[backup]]"),
        ] {
            let failure = refused(file);
            assert!(failure.why.contains(part), "{file}: {failure:?}");
        }
        let twice = "[[backup]]\nname = \"a\"\npaths = \"/a\"\n".repeat(2);
        assert!(refused(&twice).why.contains("two backups"));
        let many: String = (0..=BACKUPS_MAX)
            .map(|n| format!("[[backup]]\nname = \"{n}\"\npaths = \"/a\"\n"))
            .collect();
        assert!(refused(&many).why.contains("64"));
    }

    #[test]
    fn the_example_is_a_backup_once_it_is_no_comment() {
        let open: Vec<String> =
            example().lines().filter_map(|line| line.strip_prefix("# ").map(Into::into)).collect();
        let from = open.iter().position(|line: &String| line == "[[backup]]").unwrap();
        let read = load(&open[from..].join("\n")).unwrap();
        assert_eq!((read[0].name.as_str(), read[0].audit), ("photos", Every::WEEKLY));
        assert!(read[0].exclude_file.is_empty());
    }

    #[test]
    fn every_key_shows_what_it_takes() {
        let file = "[[backup]]\nname = \"a\"\npaths = [\"/a\"]\ntag = [\"x\"]\n";
        let [backup] = load(file).unwrap().try_into().unwrap();
        for key in &KEYS {
            let mut again = backup.clone();
            (key.set)(&mut again, &key.values(&backup)).unwrap();
            assert_eq!(again, backup, "{}", key.name);
        }
    }
}
