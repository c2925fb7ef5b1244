//! `quloud version`.

use super::output::Output;
use crate::api::API_VERSION;
use crate::core::types::PROTOCOL_VERSION;
use crate::node::datadir::LAYOUT_VERSION;
use crate::node::report::Failure;
use clap::Args;
use serde_json::json;

/// Print the versions of the program and of what it speaks
#[derive(Debug, Args)]
pub(super) struct Version {}

impl Version {
    pub(super) fn run(&self, output: &Output) -> Result<u8, Failure> {
        let version = env!("CARGO_PKG_VERSION");
        let (protocol, layout, api) = (PROTOCOL_VERSION, LAYOUT_VERSION, API_VERSION);
        let document = json!({
            "version": version, "protocol": protocol, "data_dir_layout": layout, "api": api,
        });
        output.result(&document, || {
            format!("quloud {version} (protocol {protocol}, data folder layout {layout})\n")
        })?;
        Ok(0)
    }
}
