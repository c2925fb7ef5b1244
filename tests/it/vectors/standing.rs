//! How a holder stands: its question, reports that answer it, and their MACs. Made by another
//! implementation, written from `proto/PROTOCOL.md` in another language; here they are made again,
//! and read.

use super::{Record, read};
use quloud::core::message::StandingReport;
use quloud::core::types::{Account, MeshId, NodeId};
use quloud::crypto::keys::PairKey;
use quloud::crypto::standing::StandingQuestion;

fn question(record: &Record) -> StandingQuestion {
    StandingQuestion {
        mesh: MeshId::from_bytes(record.array("mesh")),
        holder: NodeId::from_bytes(record.array("holder")),
        owner: NodeId::from_bytes(record.array("owner")),
        account: Account::from_bytes(record.array("account")),
        nonce: record.array("nonce"),
        request: record.get("request").parse().unwrap(),
    }
}

#[test]
fn macs_are_those_of_another_implementation_and_reports_are_read() {
    let (mut asked, mut answered) = (0, 0);
    for record in read("standing.txt") {
        let pair = PairKey::from_bytes(record.array("pair_key"));
        let mac = if record.name == "question" {
            asked += 1;
            question(&record).mac(&pair)
        } else {
            answered += 1;
            let report = record.bytes("report");
            let read = StandingReport::decode(&report).unwrap();
            assert_eq!(read.encode(), report, "{}", record.name);
            let name = format!("answer-{:?}", read.standing).to_lowercase();
            assert_eq!(name, record.name);
            question(&record).answer_mac(&report, &pair)
        };
        assert_eq!(mac, record.array("mac"), "{}", record.name);
    }
    assert_eq!((asked, answered), (1, 6));
}
