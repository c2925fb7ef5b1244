//! What has to hold of the figures, whatever machine they were measured on.
//!
//! In a mesh without faults every copy of a chunk goes out once, so what an owner sends is exact
//! but for what it asks with. Control traffic is gossip, almost all of it: a request reaches all
//! that hear its topic, and so do the answers to it, so that what a node bears grows with the
//! hearers of a topic and with nothing else. In one shard these are all nodes; in shards they stay
//! as many as they are however large the mesh.

use super::{REPLICAS, Row, Setup};
use quloud::core::shard::Sharding;

/// What owners send in all may be more than the copies by so much, in percent: requests, proofs,
/// headers and a seed for each, which are 1,300 bytes of a chunk of 64 KiB with its three copies.
const ASKING_PERCENT: u64 = 2;

/// What an owner sends per chunk in a larger mesh, in percent of what it sends in the smallest: the
/// same but for what it asks with.
const UPLOAD_PERCENT: u64 = 101;

/// What a node bears per hearer of a topic, in percent of that in the smallest mesh. There, nine
/// others answer a request, and twelve in all larger ones: that is a third more answers, and the
/// rest is left for the trees that gossip happens to take.
const CONTROL_PERCENT: u64 = 160;

/// What a node bears in a mesh in shards, in percent of that in the smallest such mesh: as many
/// shards as are recommended leave each topic 50 to 100 hearers, however large the mesh.
const SHARDED_PERCENT: u64 = 200;

/// What is wrong with them, where something is: they are compared with those of the first row, and
/// those in shards with the first of these.
pub(super) fn faults(rows: &[Row]) -> Vec<String> {
    let Some(smallest) = rows.first() else { return vec!["no mesh was measured".to_owned()] };
    let mut faults: Vec<String> = rows.iter().flat_map(|row| row.faults(smallest)).collect();
    let mut sharded = rows.iter().filter(|row| row.setup.sharding != Sharding::WHOLE);
    if let Some(first) = sharded.next() {
        faults.extend(sharded.filter_map(|row| row.grows(first)));
    }
    faults
}

impl Row {
    fn faults(&self, smallest: &Self) -> Vec<String> {
        let of = &self.figures;
        let (stored, healed) = (of.quorum_ms.len() as u64, of.heal_ms.len() as u64);
        let copies = of.sealed_bytes.saturating_mul(REPLICAS.into());
        let most = copies.saturating_mul(100 + ASKING_PERCENT) / 100;
        let (chunk, control) = (self.sent_per_chunk(), self.control_per_hearer());
        let chunk_most = smallest.sent_per_chunk().saturating_mul(UPLOAD_PERCENT) / 100;
        let control_most = smallest.control_per_hearer().saturating_mul(CONTROL_PERCENT) / 100;
        let mut faults = Vec::new();
        let mut expect = |holds: bool, what: String| {
            let (nodes, shards) = (self.setup.nodes, self.setup.sharding.shards());
            if !holds {
                faults.push(format!("{nodes} nodes in {shards} shards: {what}"));
            }
        };
        expect(of.chunks > 0 && stored == of.chunks, format!("{stored} of {} stored", of.chunks));
        expect(of.asked > 0 && healed == of.asked, format!("{healed} of {} healed", of.asked));
        let sent = of.payload_bytes.saturating_add(of.asking_bytes);
        expect(sent <= most, format!("owners sent {sent} bytes for {copies} of copies"));
        expect(chunk <= chunk_most, format!("{chunk} bytes sent per chunk, not {chunk_most}"));
        let text = format!("{control} bytes of control per hearer and put, not {control_most}");
        expect(control <= control_most, text);
        faults
    }

    /// What an owner sends for one chunk, in bytes.
    fn sent_per_chunk(&self) -> u64 {
        let sent = self.figures.payload_bytes.saturating_add(self.figures.asking_bytes);
        sent / self.figures.chunks.max(1)
    }

    /// Where a node bears more because the mesh is larger, although both are in shards.
    fn grows(&self, first: &Self) -> Option<String> {
        let (control, most) = (self.control(), first.control() * SHARDED_PERCENT / 100);
        let [small, large] = [first, self].map(|row| row.setup.nodes);
        (control > most).then(|| {
            format!(
                "{large} nodes in shards: {control} bytes of control per put, not {most} as {small}"
            )
        })
    }

    /// What one put costs the whole mesh, in bytes. Every node puts as much, so it is also what a
    /// node bears for each of its own puts.
    fn control(&self) -> u64 {
        let control = self.figures.gossip_bytes.saturating_add(self.figures.frame_bytes);
        control / self.setup.puts.max(1) as u64
    }

    /// The same by the number of those who hear a topic.
    fn control_per_hearer(&self) -> u64 {
        self.control() / self.setup.hearers().max(1)
    }
}

impl Setup {
    /// How many nodes hear a topic, on average.
    fn hearers(&self) -> u64 {
        let homes = self.nodes as u64 * u64::from(self.sharding.homes_per_node());
        homes / u64::from(self.sharding.shards())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Figures;
    use super::*;
    use std::time::Duration;

    /// Figures as they are measured: 200 puts of 8 chunks.
    fn row(nodes: usize, is_sharded: bool, gossip_bytes: u64) -> Row {
        let (chunks, sealed_bytes) = (1_600, 1_600 * 65_040);
        let figures = Figures {
            chunks,
            sealed_bytes,
            payload_bytes: 3 * sealed_bytes,
            asking_bytes: 1_320 * chunks,
            gossip_bytes,
            quorum_ms: vec![600; 1_600],
            asked: 400,
            heal_ms: vec![600; 400],
            ..Figures::default()
        };
        let setup = Setup::new(nodes, is_sharded, 0);
        Row { setup, figures, took: Duration::ZERO, peak_kib: None }
    }

    fn good() -> [Row; 3] {
        [row(10, false, 46_000_000), row(100, false, 538_000_000), row(100, true, 299_000_000)]
    }

    fn faults_with(change: impl Fn(&mut Row)) -> Vec<String> {
        let mut rows = good();
        change(&mut rows[2]);
        faults(&rows)
    }

    #[test]
    fn measured_figures_are_as_they_have_to_be() {
        assert_eq!(faults(&good()), Vec::<String>::new());
        assert_eq!(faults(&[]).len(), 1);
    }

    #[test]
    fn a_mesh_whose_shards_save_nothing_is_found() {
        let faults = faults_with(|row| row.figures.gossip_bytes = 538_000_000);
        assert!(
            matches!(&faults[..], [one] if one.contains("100 nodes in 8 shards")),
            "{faults:?}"
        );
    }

    #[test]
    fn a_mesh_in_shards_that_costs_more_the_larger_it_is_is_found() {
        let rows = |bytes| {
            let [small, whole, sharded] = good();
            [small, whole, sharded, row(1_000, true, bytes)]
        };
        assert_eq!(faults(&rows(380_000_000)), Vec::<String>::new());
        // Each of its hearers bears little, but too many hear.
        let mut large = rows(700_000_000);
        large[3].setup.sharding = Sharding::new(4, 4);
        let faults = faults(&large);
        assert!(matches!(&faults[..], [one] if one.contains("1000 nodes in shards")), "{faults:?}");
    }

    #[test]
    fn control_traffic_that_grows_faster_than_the_hearers_is_found() {
        let mut rows = good();
        rows[1].figures.gossip_bytes *= 2;
        assert_eq!(faults(&rows).len(), 1);
        assert_eq!(row(100, true, 0).setup.hearers(), 50);
    }

    #[test]
    fn an_owner_that_sends_more_in_a_larger_mesh_is_found() {
        let chunk = 65_040;
        let found = |change: fn(&mut Row, u64)| !faults_with(|row| change(row, chunk)).is_empty();
        assert!(found(|row, chunk| row.figures.payload_bytes += 80 * chunk), "a copy too many");
        assert!(found(|row, chunk| row.figures.asking_bytes += 80 * chunk), "asks for ever");
        assert!(!found(|row, chunk| row.figures.payload_bytes += chunk), "one was late");
    }

    #[test]
    fn what_is_not_stored_or_not_healed_is_found() {
        assert_eq!(faults_with(|row| row.figures.quorum_ms.truncate(1_599)).len(), 1);
        assert_eq!(faults_with(|row| row.figures.heal_ms.truncate(399)).len(), 1);
        let nobody = |row: &mut Row| (row.figures.asked, row.figures.heal_ms) = (0, Vec::new());
        assert_eq!(faults_with(nobody).len(), 1);
    }

    #[test]
    fn shards_in_which_everybody_hears_everything_are_found_by_the_simulator() {
        let setups = [Setup::new(10, false, 3), Setup { puts: 10, ..Setup::new(100, false, 3) }];
        let mut rows = crate::scale::measure(&setups.map(|setup| Setup { puts: 10, ..setup }));
        assert_eq!(faults(&rows), Vec::<String>::new());
        // The same traffic, in a mesh that says that it has shards.
        rows[1].setup.sharding = Sharding::recommended(100);
        assert_eq!(faults(&rows).len(), 1);
    }
}
