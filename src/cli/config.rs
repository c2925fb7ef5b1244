//! `quloud config show` and `quloud config check`.

use super::args::{GlobalOptions, settings};
use super::output::{Output, printable};
use crate::config::{FILE_NAME, SettingReport};
use crate::node::report::Failure;
use clap::Subcommand;
use serde_json::json;

/// Look at the settings
#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Print every setting: its value, where the value came from, its unit and what it does
    Show,
    /// Read the settings file and the environment, and say what is wrong with them
    Check,
}

impl Config {
    pub(super) fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let report = settings(global, Vec::new())?.report();
        let path = global.data_dir()?.join(FILE_NAME);
        match self {
            Self::Show => {
                let document = json!({ "file": path, "settings": report });
                output.result(&document, || report.iter().map(lines).collect())?;
            }
            Self::Check => {
                let found = path.exists();
                let document = json!({ "ok": true, "file": path, "file_found": found });
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
