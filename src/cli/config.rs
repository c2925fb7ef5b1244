//! `quloud config show` and `quloud config check`.

use super::args::{GlobalOptions, settings};
use super::output::{Output, printable};
use crate::config::backup::ConfiguredBackup;
use crate::config::{FILE_NAME, SettingReport};
use crate::node::report::{Failure, PatternFile, ScheduledBackup};
use clap::Subcommand;
use serde_json::{Map, Value, json};
use std::fs;
use std::io;
use std::path::Path;

/// Look at the settings
#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Print every setting: its value, where the value came from, its unit and what it does; and
    /// the configured backups
    Show,
    /// Read the settings file and the environment, and say what is wrong with them; also which
    /// paths and files of patterns of the configured backups cannot be read now
    Check,
}

impl Config {
    pub(super) fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let effective = settings(global, Vec::new())?;
        let (report, backups) = (effective.report(), &effective.config.backups);
        let path = global.data_dir()?.join(FILE_NAME);
        match self {
            Self::Show => {
                let told: Vec<Value> = backups.iter().map(object).collect();
                let document = json!({ "file": path, "settings": report, "backups": told });
                output.result(&document, || {
                    report.iter().map(lines).chain(backups.iter().map(backup)).collect()
                })?;
            }
            Self::Check => {
                let found = path.exists();
                let warnings: Vec<String> = backups.iter().flat_map(warnings).collect();
                warnings.iter().for_each(|warning| output.note(&printable(warning)));
                let document = json!({
                    "ok": true, "file": path, "file_found": found, "backups": backups.len(),
                    "warnings": warnings,
                });
                output.result(&document, || {
                    let missing = if found { "" } else { " (there is no settings file)" };
                    format!("the settings are valid{missing}: {}\n", path.display())
                })?;
            }
        }
        Ok(0)
    }
}

/// A setting as one line of facts and one of help.
fn lines(setting: &SettingReport) -> String {
    let SettingReport { name, value, unit, origin, help, .. } = setting;
    let value = match value.as_slice() {
        [] => "(none)".to_owned(),
        [value] if value.is_empty() => "(none)".to_owned(),
        values => values.join("  "),
    };
    let (value, origin) = (printable(&value), printable(origin));
    format!("{name} = {value}   [{origin}]\n    {help} ({unit})\n")
}

/// A configured backup: its settings without their help, which the file has.
fn backup(backup: &ConfiguredBackup) -> String {
    let mut text = format!("\n[[backup]] {}\n", printable(&backup.name));
    for setting in backup.report().iter().filter(|setting| setting.name != "name") {
        let value = match setting.value.as_slice() {
            [] => "(none)".to_owned(),
            values => values.join("  "),
        };
        text.push_str(&format!("    {} = {}\n", setting.name, printable(&value)));
    }
    text
}

/// The same for scripts: a list where a list is meant, `null` where nothing is said.
fn object(backup: &ConfiguredBackup) -> Value {
    let value = |many: bool, values: Vec<String>| match many {
        true => Value::from(values),
        false => values.into_iter().next().map_or(Value::Null, Value::from),
    };
    let settings = backup.report().into_iter();
    let settings = settings.map(|of| (of.name.to_owned(), value(of.many, of.value)));
    Value::Object(settings.collect::<Map<String, Value>>())
}

/// What this user cannot read now of what a backup needs. It may be there when the node runs it.
fn warnings(backup: &ConfiguredBackup) -> Vec<String> {
    let told = |why: String| format!("the backup {}: {why}", backup.name);
    let unread = backup.paths.iter().filter_map(|path| {
        let error = read(path).err()?;
        Some(format!("{} cannot be read now: {error}", path.display()))
    });
    let mut warnings: Vec<String> = unread.map(told).collect();
    let mut files = Vec::new();
    for path in &backup.exclude_file {
        let file = read(path).and_then(|()| fs::read(path)).map(PatternFile::new);
        let checked = file.map_err(|error| format!("cannot be read now: {error}")).and_then(|it| {
            let alone = ScheduledBackup::excludes(std::slice::from_ref(&it), &[]);
            alone.map(|_| it).map_err(|why| format!("are refused: {why}"))
        });
        match checked {
            Ok(file) => files.push(file),
            Err(why) => warnings.push(told(format!("the patterns in {} {why}", path.display()))),
        }
    }
    if let Err(why) = ScheduledBackup::excludes(&files, &backup.exclude) {
        warnings.push(told(why));
    }
    warnings
}

/// Whether it can be: what is neither a file nor a folder is recorded without being opened.
fn read(path: &Path) -> io::Result<()> {
    match fs::metadata(path)? {
        of if of.is_dir() => fs::read_dir(path).map(drop),
        of if of.is_file() => fs::File::open(path).map(drop),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_patterns_that_cannot_be_read_now_are_told_with_the_backup() {
        let folder = tempfile::tempdir().unwrap();
        let [good, bad, gone] = ["good", "bad", "gone"].map(|name| folder.path().join(name));
        fs::write(&good, "*.tmp\n").unwrap();
        fs::write(&bad, "*.tmp\na[b\n").unwrap();
        let paths = vec![folder.path().to_owned(), good.clone()];
        let mut backup =
            ConfiguredBackup { exclude_file: vec![good], ..ConfiguredBackup::new("a", paths) };
        assert!(warnings(&backup).is_empty(), "{:?}", warnings(&backup));
        backup.paths.push(gone.clone());
        backup.exclude_file.extend([bad, gone]);
        let [path, refused, unread] = warnings(&backup).try_into().unwrap();
        assert!(path.starts_with("the backup a: ") && path.contains("gone cannot be read"));
        assert!(refused.contains("bad are refused: line 2 cannot match"), "{refused}");
        assert!(unread.contains("gone cannot be read now"), "{unread}");
        backup.exclude_file.truncate(1);
        backup.paths.truncate(1);
        backup.exclude = vec!["x".repeat(4_000); 11];
        assert!(warnings(&backup)[0].contains("no snapshot can record them"));
    }
}
