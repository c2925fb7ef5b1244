//! The daemon: owns the drive loop and pumps inputs and effects between roles, store and net.

pub mod datadir;
pub mod report;
