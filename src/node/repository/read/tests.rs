//! Chains whose chunks come late, or not at all: how many are fetched at once, and what is made of
//! them. The clock is the runtime's own, which jumps to whatever is waited for.

use super::super::Agreed;
use super::*;
use crate::core::types::{DeviceId, Locality};
use crate::crypto::head::HeadKeys;
use crate::crypto::keys::{ChunkKey, Master, OwnerKeys};
use crate::repo::manifest::Body;
use std::num::NonZeroU64;
use std::sync::Mutex;
use tokio::time::{Instant, sleep};

/// What holders have, and who asked for it.
#[derive(Default)]
struct Holders {
    plaintexts: BTreeMap<ChunkId, Bytes>,
    /// Those who have these are away.
    away: BTreeSet<ChunkId>,
    asked: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    ids: Vec<ChunkId>,
    now: usize,
    most: usize,
}

impl Holders {
    async fn fetch(&self, id: ChunkId) -> Result<Bytes, String> {
        {
            let mut asked = self.asked.lock().unwrap();
            asked.ids.push(id);
            asked.now += 1;
            asked.most = asked.most.max(asked.now);
        }
        let is_away = self.away.contains(&id);
        // The later in a chain, the sooner.
        let late = Duration::from_millis(u64::from(u8::MAX - id.as_bytes()[1]));
        sleep(if is_away { CHUNK_PATIENCE } else { late }).await;
        self.asked.lock().unwrap().now -= 1;
        match is_away {
            true => Err(format!("{} is away", id.as_bytes()[1])),
            false => Ok(self.plaintexts[&id].clone()),
        }
    }

    async fn read(&self, wanted: Vec<Wanted>) -> Vec<Found> {
        let fetch = |at: ChunkRef| async move { self.fetch(at.id).await };
        let lanes = Lanes { places: Semaphore::new(AT_ONCE_MAX), fetch, generation: 0 };
        join_all(wanted.into_iter().map(|wanted| lanes.read(wanted))).await
    }

    /// The chain of a device with so many entries, as two records: before its last one, and now.
    fn chain(&mut self, index: u8, entries: u8) -> [Picked; 2] {
        let device = DeviceId::from_bytes([index; 16]);
        let mut chain = Chain::new(device, index.into(), 0);
        let mut push = |chain: &mut Chain, number| {
            let entry = chain.next(Body::PruneDone { prune: [1; 16], released: 0 }, 0, 0);
            let plaintext = entry.encode().unwrap();
            let id = chunk(index, number);
            let (ck, locality) = (ChunkKey::from_bytes([0; 32]), Locality(0));
            chain.push(&entry, &plaintext, ChunkRef { ck, id, locality, bytes: 1 });
            self.plaintexts.insert(id, Bytes::copy_from_slice(&plaintext));
        };
        (0..entries - 1).for_each(|number| push(&mut chain, number));
        let before = picked(&chain, index, 1);
        push(&mut chain, entries - 1);
        [before, picked(&chain, index, 2)]
    }

    fn newest(&mut self, index: u8, entries: u8) -> Wanted {
        let [_, newest] = self.chain(index, entries);
        wanted(newest)
    }
}

fn chunk(index: u8, number: u8) -> ChunkId {
    let mut id = [0; 32];
    (id[0], id[1]) = (index, number);
    ChunkId::from_bytes(id)
}

fn picked(chain: &Chain, index: u8, number: u64) -> Picked {
    let keys = OwnerKeys::derive(&Master::from_bytes([1; 32]), 0);
    let keys = HeadKeys::derive(&keys.head, 0, index.into());
    let at = NonZeroU64::new(number).unwrap();
    let record = keys.make(at, [0; 32], b"payload", &mut rand::rng()).unwrap();
    let mut payload = HeadPayload {
        number,
        device: DeviceId::from_bytes([index; 16]),
        index: index.into(),
        lamport: 0,
        signed_at_s: 0,
        replicas: 1,
        retired: false,
        chain: 0,
        newest: [0; 32],
        checkpoint: None,
        recent: Vec::new(),
        devices: BTreeMap::new(),
        holders: Vec::new(),
    };
    chain.name_in(&mut payload);
    Picked { record, payload, agreed: Agreed::default() }
}

fn wanted(picked: Picked) -> Wanted {
    Wanted { picked, is_read: false, seen: None, before: None }
}

/// What came of each chain: how many entries it has.
fn lengths(found: &[Found]) -> Vec<Option<u64>> {
    let length = |found: &Found| {
        let view = found.newest.as_ref().ok()?.as_ref()?;
        Some(view.view.entries.len() as u64)
    };
    found.iter().map(length).collect()
}

#[tokio::test(start_paused = true)]
async fn chunks_that_are_away_for_several_devices_cost_one_patience() {
    let mut holders = Holders::default();
    let heads: Vec<Wanted> = (0..6).map(|index| holders.newest(index, 9)).collect();
    holders.away = (0..5).map(|index| chunk(index, index)).collect();
    let begun = Instant::now();
    let found = holders.read(heads).await;
    assert_eq!(lengths(&found), [None, None, None, None, None, Some(9)]);
    let why = |found: &Found| found.newest.as_ref().err().cloned().unwrap_or_default();
    assert!(why(&found[3]).ends_with("cannot be read: 3 is away"), "in the order of the heads");
    let waited = begun.elapsed();
    assert!(waited < CHUNK_PATIENCE + CHUNK_PATIENCE / 10, "not five of them: {waited:?}");
}

#[tokio::test(start_paused = true)]
async fn so_many_chunks_are_fetched_at_once_and_no_more() {
    let mut holders = Holders::default();
    let one = holders.newest(0, 16);
    assert_eq!(lengths(&holders.read(vec![one]).await), [Some(16)]);
    assert_eq!(holders.asked.lock().unwrap().most, OF_A_CHAIN_MAX);
    let all: Vec<Wanted> = (0..32).map(|index| holders.newest(index, 16)).collect();
    assert_eq!(lengths(&holders.read(all).await), [Some(16); 32]);
    assert_eq!(holders.asked.lock().unwrap().most, AT_ONCE_MAX);
}

#[tokio::test(start_paused = true)]
async fn once_a_chunk_is_away_no_other_one_of_its_chain_is_begun() {
    let mut holders = Holders::default();
    let heads = vec![holders.newest(0, 16), holders.newest(1, 16)];
    holders.away = (0..16).map(|number| chunk(0, number)).collect();
    assert_eq!(lengths(&holders.read(heads).await), [None, Some(16)]);
    let asked = holders.asked.lock().unwrap();
    let of = |index: u8| asked.ids.iter().filter(|id| id.as_bytes()[0] == index).count();
    assert_eq!((of(0), of(1)), (OF_A_CHAIN_MAX, 16));
}

#[tokio::test(start_paused = true)]
async fn the_chain_of_before_is_read_where_it_lacks_nothing_that_is_away() {
    for (away, lacks) in [(8, false), (2, true)] {
        let mut holders = Holders::default();
        let [before, newest] = holders.chain(0, 9);
        holders.away = [chunk(0, away)].into();
        let found = holders.read(vec![Wanted { before: Some(before), ..wanted(newest) }]).await;
        let [found] = found.as_slice() else { panic!("one was wanted") };
        assert!(found.newest.is_err());
        let length = found.before.as_ref().map(|(_, of)| of.view.entries.len());
        assert_eq!(length, (!lacks).then_some(8));
        // Whoever is away is asked for it once.
        let asked = holders.asked.lock().unwrap();
        assert_eq!(asked.ids.iter().filter(|id| **id == chunk(0, away)).count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_is_in_memory_is_not_read() {
    let mut holders = Holders::default();
    let head = Wanted { is_read: true, ..holders.newest(0, 3) };
    let found = holders.read(vec![head]).await;
    assert!(matches!(found[0].newest, Ok(None)));
    assert!(holders.asked.lock().unwrap().ids.is_empty());
}
