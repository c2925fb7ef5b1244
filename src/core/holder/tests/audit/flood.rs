//! A flood of audits, in virtual time, at a holder whose disk takes its time.

use super::*;
use crate::crypto::keys::PairKey;

const SECONDS: u64 = 10;

/// What it takes to read a chunk: 4 MiB of a slow disk.
const READ_MS: u64 = 20;

/// What an owner is told within, that asks for no more than it should.
const PATIENCE_MS: u64 = 2_000;

/// Who has an account here, and asks a thousand times a second.
const GREEDY: NodeId = NodeId::from_bytes([7; 32]);

/// Chunks that each question of the flood is for.
const ASKED: usize = 100;

/// Connected peers that have nothing here.
const STRANGERS: u8 = 60;

/// What the honest owner asks for, each time.
const TAGS: [u32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// An owner's account, and what it proves with that it is its own.
struct Asker(NodeId, Account, PairKey);

/// The holder, and a disk that reads one chunk after the other.
struct Flood {
    fixture: Fixture,
    limits: HolderLimits,
    disk: VecDeque<Asked>,
    /// For how long the disk reads the first of them.
    reading_ms: u64,
    /// Chunks that were to be read, by account.
    read: BTreeMap<Account, u64>,
    asked: u64,
    answers: BTreeMap<u64, (Time, AccountAnswer)>,
}

impl Flood {
    fn new(limits: HolderLimits) -> Self {
        Self {
            fixture: Fixture::with(limits.clone()),
            limits,
            disk: VecDeque::new(),
            reading_ms: 0,
            read: BTreeMap::new(),
            asked: 0,
            answers: BTreeMap::new(),
        }
    }

    /// An owner with these words, that asks as this peer.
    fn asker(&mut self, words: u8, node: NodeId) -> Asker {
        let keys = OwnerKeys::derive(&Master::from_bytes([words; 32]), 0);
        let honest = std::mem::replace(&mut self.fixture.owner, keys);
        let asker = Asker(node, self.fixture.account(), self.fixture.pair());
        if node == GREEDY {
            self.fixture.settle_in();
        }
        self.fixture.up(node);
        self.fixture.owner = honest;
        asker
    }

    fn ask(&mut self, Asker(from, account, pair): &Asker, ids: Vec<ChunkId>) -> u64 {
        self.asked += 1;
        let mut nonce = [0; 32];
        nonce[..8].copy_from_slice(&self.asked.to_le_bytes());
        let ask = AccountAsk::Audit { kind: COMPACT, ids };
        let (named, between) =
            ((self.asked, *account, nonce), (MESH, *from, self.fixture.role.me()));
        let asked = AccountRequest::new(named, ask, between, pair);
        let effects = self.fixture.stream(*from, StreamMessage::AccountRequest(asked));
        self.take(effects);
        self.asked
    }

    fn take(&mut self, effects: Vec<Effect>) {
        let (asked, others) = to_prove(effects);
        for one in asked {
            *self.read.entry(one.account).or_default() += 1;
            self.disk.push_back(one);
        }
        for effect in others {
            match effect {
                Effect::Send { to: OWNER, message: StreamMessage::AccountAnswer(answer) } => {
                    if answer.outcome != Err(AccountRefusal::Working) {
                        self.answers.insert(answer.request, (self.fixture.now, answer));
                    }
                }
                Effect::Send { message: StreamMessage::AccountAnswer(_), .. } => {}
                Effect::Report(Event::Rejected { .. }) => {}
                other => panic!("nothing else comes of an audit: {other:?}"),
            }
        }
        let HolderLoad { audits, proving, .. } = self.fixture.role.load();
        let at_once = self.limits.audits_working * self.limits.proving_per_audit;
        assert!(proving <= at_once && self.disk.len() <= at_once, "{proving}");
        assert!(audits <= self.limits.audits_open, "{audits}");
    }

    fn pass_one_ms(&mut self) {
        let effects = self.fixture.pass(1);
        self.take(effects);
        let Some(first) = self.disk.front() else { return };
        self.reading_ms += 1;
        if self.reading_ms < READ_MS {
            return;
        }
        let result = match first.account == self.fixture.account() {
            true => self.fixture.store_proves(&TAGS, first),
            false => Err(Unproven::NotHeld),
        };
        self.reading_ms = 0;
        let first = self.disk.pop_front().expect("it was there");
        let effects = self.fixture.proven(first, result);
        self.take(effects);
    }
}

/// Threat 16: 10,000 questions a second, nearly all of strangers and the others of one account.
#[test]
fn audit_flood_10k_per_s() {
    let rate = Rate { per_s: 4, burst: 200 };
    let mut flood =
        Flood::new(HolderLimits { audited_chunks_per_account: rate, ..HolderLimits::default() });
    flood.fixture.settle_in();
    let ids: Vec<ChunkId> = TAGS.iter().map(|tag| flood.fixture.chunk(*tag).id()).collect();
    let (account, pair) = (flood.fixture.account(), flood.fixture.pair());
    let (honest, greedy) = (Asker(OWNER, account, pair), flood.asker(66, GREEDY));
    let strangers: Vec<Asker> = (0..STRANGERS)
        .map(|number| {
            let own = flood.asker(100 + number, NodeId::from_bytes([100 + number; 32]));
            // Every other one says that it is the honest owner.
            if number % 2 == 0 { own } else { Asker(own.0, account, own.2) }
        })
        .collect();
    let mut asks = strangers.iter().cycle();
    let (mut waits, none) = (Vec::new(), none(ASKED));
    for ms in 0..SECONDS * 1_000 {
        if ms % 2_500 == 500 {
            waits.push((flood.ask(&honest, ids.clone()), flood.fixture.now));
        }
        for _ in 0..9 {
            let stranger = asks.next().expect("it goes round and round");
            flood.ask(stranger, none.clone());
        }
        flood.ask(&greedy, none.clone());
        flood.pass_one_ms();
    }
    assert_eq!((flood.asked, waits.len()), (SECONDS * 10_000 + 4, 4));
    let most = u64::from(rate.burst) + SECONDS * u64::from(rate.per_s);
    let read = |account: &Account| flood.read.get(account).copied().unwrap_or_default();
    assert!((1..=most).contains(&read(&greedy.1)), "{} of {most}", read(&greedy.1));
    assert_eq!(read(&account), 4 * ids.len() as u64);
    assert_eq!(flood.read.len(), 2, "nothing was read for a stranger");
    for (number, asked) in waits {
        let (at, answer) = flood.answers.remove(&number).expect("it is answered");
        assert!(at.0 - asked.0 <= PATIENCE_MS, "{} ms", at.0 - asked.0);
        let chunks = audited(answer).chunks;
        assert!(chunks.len() == ids.len());
        assert!(chunks.iter().all(|chunk| chunk.state == AuditState::Proven));
    }
}
