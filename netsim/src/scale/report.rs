//! What is printed of the meshes: a table in Markdown, and one line of JSON.

use super::{CHUNKS, Figures, PUTS_PER_DAY, REPLICAS, Row};
use serde_json::{Value, json};
use std::fmt::Write;

/// The table, with what it is about above it.
pub(super) fn table(rows: &[Row]) -> String {
    let mut out = format!(
        "Every node puts {PUTS_PER_DAY} times a day {CHUNKS} chunks of 64 KiB, {REPLICAS} times \
         each.\n\n"
    );
    let columns = [
        "nodes",
        "shards x homes",
        "puts simulated",
        "control per node and day, MB",
        "owner sends per chunk, x its size",
        "and besides, bytes",
        "quorum p50 / p99, s",
        "heal p50 / p99, s",
        "memory, MiB",
        "took, s",
    ];
    let _ = writeln!(out, "| {} |", columns.join(" | "));
    let _ = writeln!(out, "|{}", "---:|".repeat(columns.len()));
    for row in rows {
        let Figures { quorum_ms, heal_ms, .. } = &row.figures;
        let sharding = row.setup.sharding;
        let cells = [
            row.setup.nodes.to_string(),
            format!("{} x {}", sharding.shards(), sharding.homes_per_node()),
            format!("{} ({:.2} % of a day's)", row.setup.puts, row.percent()),
            format!("{:.2}", row.control_per_node_day() / 1e6),
            format!("{:.3}", row.upload_per_chunk()),
            format!("{:.0}", row.asking_per_chunk()),
            format!("{} / {}", seconds(quorum_ms, 50), seconds(quorum_ms, 99)),
            format!("{} / {}", seconds(heal_ms, 50), seconds(heal_ms, 99)),
            row.peak_kib.map_or("unknown".to_owned(), |kib| (kib / 1024).to_string()),
            format!("{:.1}", row.took.as_secs_f64()),
        ];
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    let _ = write!(out, "\nMemory is the most of the process so far.");
    for row in rows {
        let missing = row.figures.chunks.saturating_sub(row.figures.quorum_ms.len() as u64);
        let ill = row.figures.asked.saturating_sub(row.figures.heal_ms.len() as u64);
        if missing + ill > 0 {
            let nodes = row.setup.nodes;
            let _ = write!(out, "\n{nodes} nodes: {missing} chunks not stored, {ill} not healed.");
        }
    }
    out
}

/// One line.
pub(super) fn json(rows: &[Row], seed: u64, faults: &[String]) -> String {
    let timing = |row: &Row| {
        json!({
            "nodes": row.setup.nodes,
            "sharded": row.setup.sharding.bits() > 0,
            "seconds": row.took.as_secs_f64(),
            "peak_kib": row.peak_kib,
        })
    };
    json!({
        "seed": seed,
        "puts_per_node_and_day": PUTS_PER_DAY,
        "chunks_per_put": CHUNKS,
        "replicas": REPLICAS,
        "faults": faults,
        "meshes": rows.iter().map(Row::json).collect::<Vec<_>>(),
        "timing": { "meshes": rows.iter().map(timing).collect::<Vec<_>>() },
    })
    .to_string()
}

impl Row {
    /// What is simulated of the puts of all nodes in a day.
    fn percent(&self) -> f64 {
        let day = self.setup.nodes as f64 * PUTS_PER_DAY as f64;
        100.0 * self.setup.puts as f64 / day
    }

    /// What one put costs the whole mesh, times the puts of one node in a day.
    fn per_node_day(&self, sum: u64) -> f64 {
        sum as f64 / self.setup.puts.max(1) as f64 * PUTS_PER_DAY as f64
    }

    fn control_per_node_day(&self) -> f64 {
        self.per_node_day(self.figures.gossip_bytes + self.figures.frame_bytes)
    }

    fn upload_per_chunk(&self) -> f64 {
        self.figures.payload_bytes as f64 / self.figures.sealed_bytes.max(1) as f64
    }

    fn asking_per_chunk(&self) -> f64 {
        self.figures.asking_bytes as f64 / self.figures.chunks.max(1) as f64
    }

    fn json(&self) -> Value {
        let Figures { quorum_ms, heal_ms, .. } = &self.figures;
        let of = &self.figures;
        json!({
            "nodes": self.setup.nodes,
            "shards": self.setup.sharding.shards(),
            "homes": self.setup.sharding.homes_per_node(),
            "connections_per_node": of.connections as f64 / self.setup.nodes.max(1) as f64,
            "puts": self.setup.puts,
            "window_ms": of.window_ms,
            "chunks": of.chunks,
            "stored": quorum_ms.len(),
            "requests_per_put": of.requests as f64 / self.setup.puts.max(1) as f64,
            "answers_per_put": of.answers as f64 / self.setup.puts.max(1) as f64,
            "control_bytes_per_node_and_day": self.control_per_node_day(),
            "gossip_bytes_per_node_and_day": self.per_node_day(of.gossip_bytes),
            "gossip_copies_per_node_and_day": self.per_node_day(of.gossip_copies),
            "connections_to_publish_per_node_and_day": self.per_node_day(of.looked_up),
            "upload_per_chunk": self.upload_per_chunk(),
            "asking_bytes_per_chunk": self.asking_per_chunk(),
            "quorum_ms": { "p50": percentile(quorum_ms, 50), "p99": percentile(quorum_ms, 99) },
            "left": of.left,
            "asked_to_heal": of.asked,
            "healed": heal_ms.len(),
            "healing_bytes": of.healing_bytes,
            "heal_ms": { "p50": percentile(heal_ms, 50), "p99": percentile(heal_ms, 99) },
            "events": of.events,
        })
    }
}

/// So many in a hundred are no longer than this; `None` where there are none.
fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied()
}

fn seconds(sorted: &[u64], percent: usize) -> String {
    percentile(sorted, percent).map_or("-".to_owned(), |ms| format!("{:.2}", ms as f64 / 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::{Setup, measure};

    #[test]
    fn json_has_the_clock_and_the_memory_apart() {
        let setups = [Setup { puts: 3, ..Setup::new(8, true, 5) }];
        let mut lines = [(); 2]
            .map(|()| serde_json::from_str::<Value>(&json(&measure(&setups), 5, &[])).unwrap());
        for line in &mut lines {
            assert!(line.as_object_mut().unwrap().remove("timing").is_some());
        }
        assert_eq!(lines[0], lines[1]);
        assert_eq!(lines[0]["meshes"][0]["stored"], 24);
        assert!(table(&measure(&setups)).contains("| 8 | 1 x 1 |"));
    }

    #[test]
    fn percentiles_are_of_what_there_is() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[7], 99), Some(7));
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99)), (Some(51), Some(100)));
    }
}
