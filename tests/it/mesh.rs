//! Real libp2p nodes on loopback: what the network half promises the drive loop.

mod gossiper;
mod node;
mod raw;

use bytes::Bytes;
use gossiper::Gossiper;
use node::{Node, all_connected, answer, chunk, reject};
use quloud::core::codec::{self, Reject};
use quloud::core::effect::{Reach, Via};
use quloud::core::message::{Message, RetrieveRefusal, StreamMessage};
use quloud::core::types::NodeId;
use quloud::net::{Link, NetConfig, NetError, NetEvent, NetLimits};
use raw::Raw;
use std::io::Write;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_that_know_only_the_first_find_each_other() {
    let nodes = five().await;
    for node in &nodes {
        let snapshot = node.net.snapshot().await;
        assert!(snapshot.peers.iter().all(|peer| peer.link == Link::Lan));
        assert!(snapshot.listen[0].ends_with(&format!("/p2p/{}", snapshot.peer_id)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_asks_for_the_others_as_soon_as_there_is_somebody_to_ask() {
    // Nothing is done by the clock but the first dial.
    let hour = Duration::from_secs(3_600);
    let alone = |config: &mut NetConfig| {
        (config.limits.tick, config.limits.walk) = (hour, hour);
    };
    let first = Node::start(1, alone).await;
    let beside = |config: &mut NetConfig| {
        alone(config);
        config.bootstrap = vec![first.address.clone()];
    };
    let mut second = Node::start(2, beside).await;
    second.up(first.id()).await;
    let mut third = Node::start(3, beside).await;
    third.up(second.id()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mesh_goes_on_when_its_first_node_dies() {
    let mut nodes = five().await;
    let first = nodes.remove(0);
    let dead = first.id();
    drop(first);
    for node in &mut nodes {
        node.until(|event| matches!(event, NetEvent::Down(node) if *node == dead)).await;
    }
    let late = Node::start(9, |config| config.bootstrap = vec![nodes[3].address.clone()]).await;
    nodes.push(late);
    all_connected(&nodes).await;
    gossip_reaches_all(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gossiped_message_reaches_every_node() {
    gossip_reaches_all(&mut five().await).await;
}

/// Five nodes, four of which were given the address of the first.
async fn five() -> Vec<Node> {
    let mut nodes = vec![Node::start(0, |_| {}).await];
    for seed in 1..5 {
        let first = nodes[0].address.clone();
        nodes.push(Node::start(seed, |config| config.bootstrap = vec![first]).await);
    }
    all_connected(&nodes).await;
    nodes
}

/// Published again and again with new bytes, as the outbox does: gossip promises nothing.
async fn gossip_reaches_all(nodes: &mut [Node]) {
    let mut waiting: Vec<usize> = (1..nodes.len()).collect();
    for attempt in 0..100 {
        let (topic, message) = answer(attempt);
        nodes[0].net.publish(topic, message);
        let mut missing = Vec::new();
        for at in waiting {
            let got = |event: &NetEvent| {
                matches!(
                    event,
                    NetEvent::Message { via: Via::Topic, message: Message::Topic(_), .. }
                )
            };
            if nodes[at].within(Duration::from_millis(200), got).await.is_none() {
                missing.push(at);
            }
        }
        waiting = missing;
        if waiting.is_empty() {
            return;
        }
    }
    panic!("gossip never reached {waiting:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_of_any_size_arrive_whole_over_tcp_and_over_quic() {
    for listen in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let (mut one, mut two) = pair(listen).await;
        for bytes in [100, 1 << 20, 4 << 20] {
            let sent = chunk(7, bytes);
            one.net.send(two.id(), sent.clone());
            let event = two.until(|event| matches!(event, NetEvent::Message { .. })).await;
            let NetEvent::Message { from, via: Via::Stream, message: Message::Stream(got) } = event
            else {
                panic!("not from a stream: {event:?}");
            };
            assert!(from == one.id() && got == sent, "{bytes} bytes over {listen}");
        }
        two.net.send(one.id(), reject(3));
        one.until(|event| matches!(event, NetEvent::Message { .. })).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_on_loopback_is_local_and_its_hello_is_passed_on() {
    let one = Node::start(1, |config| config.hello.site = "attic".into()).await;
    let mut two = Node::start(2, |config| config.bootstrap = vec![one.address.clone()]).await;
    let NetEvent::Up(peer) = two.until(|event| matches!(event, NetEvent::Up(_))).await else {
        unreachable!("the wait was for it");
    };
    assert_eq!((peer.node, peer.reach), (one.id(), Reach::Local));
    assert_eq!((peer.hello.node, peer.hello.site.as_str()), (one.id(), "attic"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_read_loses_no_frame() {
    // Much may wait to be sent, and less than that unread at the other end.
    let limits = NetLimits {
        unsent_bytes: 64 << 20,
        unsent_served_bytes: 256 << 20,
        unread_bytes: 16 << 20,
        ..NetLimits::brisk()
    };
    let (one, mut two) = pair_with("/ip4/127.0.0.1/tcp/0", &limits).await;
    let frames = 14;
    for number in 0..frames {
        one.net.send(two.id(), chunk(number, 4 << 20));
    }
    for number in 0..frames {
        let event = two.until(|event| matches!(event, NetEvent::Message { .. })).await;
        let NetEvent::Message { message: Message::Stream(message), .. } = event else {
            panic!("not from a stream: {event:?}");
        };
        assert!(message == chunk(number, 4 << 20), "frame {number}");
    }
    assert_eq!(one.net.snapshot().await.counters.dropped, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_answered_though_the_asker_reads_slowly() {
    let limits = NetLimits { unsent_bytes: 8 << 20, unread_bytes: 4 << 20, ..NetLimits::brisk() };
    let (one, mut two) = pair_with("/ip4/127.0.0.1/tcp/0", &limits).await;
    let requests = 20;
    for request in 0..requests {
        one.net.send(two.id(), chunk(request, 4 << 20));
    }
    let mut waiting: Vec<u64> = (0..requests).collect();
    let mut declined = 0;
    while !waiting.is_empty() {
        let event = two.until(|event| matches!(event, NetEvent::Message { .. })).await;
        let request = match event {
            NetEvent::Message { message: Message::Stream(message), .. } => match message {
                StreamMessage::ChunkData(data) => data.request,
                StreamMessage::RetrieveReject(reject) => {
                    assert_eq!(reject.reason, RetrieveRefusal::Busy);
                    declined += 1;
                    reject.request
                }
                message => panic!("{message:?}"),
            },
            event => panic!("{event:?}"),
        };
        let at = waiting.iter().position(|waits| *waits == request);
        waiting.swap_remove(at.expect("each is answered once"));
    }
    let counters = one.net.snapshot().await.counters;
    assert!(declined > 0 && declined < requests);
    assert_eq!((counters.busy, counters.dropped), (declined, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_dials_end_with_one_connection_and_nobody_goes_down() {
    for round in 0..6 {
        let transport = if round % 2 == 0 { "tcp/0" } else { "udp/0/quic-v1" };
        let listen = vec![format!("/ip4/127.0.0.1/{transport}")];
        let mut one = Node::start(10 + round, |config| config.listen = listen.clone()).await;
        let mut two = Node::start(20 + round, |config| config.listen = listen).await;
        one.net.add_address(two.address.clone());
        two.net.add_address(one.address.clone());
        one.up(two.id()).await;
        two.up(one.id()).await;
        // Sent while the surplus connection, if there is one, is being given up.
        let numbers = 0..40;
        for number in numbers.clone() {
            one.net.send(two.id(), reject(number));
            one.net.send(two.id(), chunk(number, 64 << 10));
            two.net.send(one.id(), reject(number));
        }
        let is_message = |event: &NetEvent| match event {
            NetEvent::Down(_) => panic!("down in round {round}"),
            event => matches!(event, NetEvent::Message { .. }),
        };
        for _ in numbers {
            two.until(is_message).await;
            two.until(is_message).await;
            one.until(is_message).await;
        }
        for node in [&one, &two] {
            node.snapshot_until(|snapshot| snapshot.connections == 1).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_mesh_is_refused_and_not_dialled_again() {
    let one = Node::start(1, |_| {}).await;
    let mut two = Node::start(2, |config| {
        config.mesh = quloud::core::types::MeshId::from_bytes([9; 32]);
        config.hello.mesh = config.mesh;
        config.bootstrap = vec![one.address.clone()];
    })
    .await;
    two.until(|event| match event {
        NetEvent::Up(_) => panic!("a stranger is up"),
        event => matches!(event, NetEvent::Rejected { reason: Reject::WrongMesh, .. }),
    })
    .await;
    let snapshot = two.snapshot_until(|snapshot| snapshot.connections == 0).await;
    assert_eq!(snapshot.counters.rejected[&Reject::WrongMesh], 1);
    two.net.dial(one.id(), Bytes::new());
    two.until(|event| matches!(event, NetEvent::Down(node) if *node == one.id())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_found_by_its_signed_record() {
    let mut one = Node::start(1, |_| {}).await;
    let mut two = Node::start(2, |_| {}).await;
    let record = one.record().await;
    assert!(record.len() <= 512);
    two.net.dial(one.id(), record.clone());
    two.up(one.id()).await;
    one.up(two.id()).await;

    let mut three = Node::start(3, |_| {}).await;
    let stranger = NodeId::from_bytes([3; 32]);
    for (node, record) in [(stranger, record), (stranger, Bytes::new()), (three.id(), Bytes::new())]
    {
        three.net.dial(node, record);
        three.until(|event| matches!(event, NetEvent::Down(down) if *down == node)).await;
    }
    let rejected = three.net.snapshot().await.counters.rejected;
    assert_eq!(rejected.into_iter().collect::<Vec<_>>(), [(Reject::WrongPeer, 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_to_an_absent_node_is_answered_by_down() {
    let mut one = Node::start(1, |_| {}).await;
    let absent = NodeId::from_bytes([3; 32]);
    one.net.send(absent, reject(0));
    one.until(|event| matches!(event, NetEvent::Down(node) if *node == absent)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_book_brings_a_restarted_node_back_into_its_mesh() {
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("peers.json");
    let one = Node::start(1, |_| {}).await;
    let mut two = Node::start(2, |config| {
        config.bootstrap = vec![one.address.clone()];
        config.address_book = Some(book.clone());
    })
    .await;
    two.up(one.id()).await;
    two.net.shutdown().await;
    assert!(two.net.snapshot().await.peers.is_empty());
    let mut two = Node::start(2, |config| config.address_book = Some(book)).await;
    two.up(one.id()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_restarts_goes_down_and_comes_up_again() {
    let mut one = Node::start(1, |_| {}).await;
    for _ in 0..2 {
        let mut two = Node::start(2, |config| config.bootstrap = vec![one.address.clone()]).await;
        one.up(two.id()).await;
        two.up(one.id()).await;
        let gone = two.id();
        drop(two);
        one.until(|event| matches!(event, NetEvent::Down(node) if *node == gone)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_takes_its_room_before_it_is_read() {
    let limits = NetLimits { unread_bytes: 512 << 10, ..NetLimits::brisk() };
    let mut node = Node::start(1, |config| config.limits = limits).await;
    let (mut begun, rest) = Raw::half_a_frame(&mut node, 40, &chunk(1, 512 << 10)).await;
    let mut whole = Raw::connect_as(&node, 41).await;
    whole.greet().await;
    node.up(whole.id()).await;
    let second = whole.id();
    let saying = tokio::spawn(async move { whole.say(&chunk(2, 512 << 10)).await });
    let message = |event: &NetEvent| matches!(event, NetEvent::Message { .. });
    assert!(node.within(Duration::from_millis(300), message).await.is_none());

    begun.send(&rest).await;
    for expected in [begun.id(), second] {
        let event = node.until(message).await;
        assert!(matches!(event, NetEvent::Message { from, .. } if from == expected), "{event:?}");
    }
    saying.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_stops_inside_a_payload_gives_its_room_back() {
    let stall = Duration::from_secs(1);
    let limits = NetLimits { unread_bytes: 512 << 10, stall, stall_bytes: 1, ..NetLimits::brisk() };
    let mut node = Node::start(1, |config| config.limits = limits).await;
    let _stopped = Raw::half_a_frame(&mut node, 40, &chunk(1, 512 << 10)).await;
    let mut whole = Raw::connect_as(&node, 41).await;
    whole.greet().await;
    let second = whole.id();
    let saying = tokio::spawn(async move {
        whole.say(&chunk(2, 512 << 10)).await;
        whole
    });
    let event = node.until(|event| matches!(event, NetEvent::Message { .. })).await;
    assert!(matches!(event, NetEvent::Message { from, .. } if from == second), "{event:?}");
    saying.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_payloads_do_not_keep_others_out_when_room_is_short() {
    // The slow one could go on for half a minute, and then for five.
    let limits = NetLimits { unread_bytes: 512 << 10, ..NetLimits::brisk() };
    let mut node = Node::start(1, |config| config.limits = limits).await;
    let (slow, _) = Raw::half_a_frame(&mut node, 40, &chunk(1, 512 << 10)).await;
    let slow_id = slow.id();
    let mut whole = Raw::connect_as(&node, 41).await;
    whole.greet().await;
    let second = whole.id();
    let saying = tokio::spawn(async move {
        whole.say(&chunk(2, 512 << 10)).await;
        whole
    });
    // The room is free before it is told that the one who had it is gone: which of them comes first
    // nobody knows.
    let (mut is_dropped, mut is_heard) = (false, false);
    while !(is_dropped && is_heard) {
        let is_either =
            |event: &NetEvent| matches!(event, NetEvent::Message { .. } | NetEvent::Down(_));
        match node.until(is_either).await {
            NetEvent::Down(of) => is_dropped |= of == slow_id,
            event => {
                let is_it = matches!(event, NetEvent::Message { from, .. } if from == second);
                assert!(is_it, "{event:?}");
                is_heard = true;
            }
        }
    }
    saying.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_dialled_by_name_stands_where_the_name_leads() {
    if !std::path::Path::new("/etc/resolv.conf").exists() {
        writeln!(std::io::stderr(), "SKIP: this system has no resolver").unwrap();
        return;
    }
    for transport in ["tcp/0", "udp/0/quic-v1"] {
        let listen = vec![format!("/ip4/127.0.0.1/{transport}")];
        let one = Node::start(1, |config| config.listen = listen.clone()).await;
        let named = one.address.replace("/ip4/127.0.0.1/", "/dns4/localhost/");
        let mut two = Node::start(2, |config| config.bootstrap = vec![named]).await;
        let up = two.until(|event| matches!(event, NetEvent::Up(_))).await;
        assert!(matches!(up, NetEvent::Up(peer) if peer.reach == Reach::Local));
        assert_eq!(two.net.snapshot().await.peers[0].link, Link::Lan);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tcp_port_belongs_to_one_node_until_that_node_ends() {
    let mut one = Node::start(1, |_| {}).await;
    let listen = vec![one.address.split("/p2p/").next().unwrap().to_string()];
    let second = Node::try_start(2, |config| config.listen = listen.clone());
    let error = second.err().expect("the port is taken").to_string();
    assert!(error.contains("in use"), "{error}");

    // The peer's connection leaves the port in TIME_WAIT behind: we are who ends it.
    let two = Node::start(2, |config| config.bootstrap = vec![one.address.clone()]).await;
    one.up(two.id()).await;
    one.net.shutdown().await;
    let mut one = Node::start(1, |config| config.listen = listen).await;
    one.up(two.id()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_frame_closes_the_connection() {
    let mut node = Node::start(1, |_| {}).await;
    let mut raw = Raw::connect(&node).await;
    raw.greet().await;
    node.up(raw.id()).await;
    raw.send(&[0xff; 8]).await;
    let id = raw.id();
    node.until(|event| matches!(event, NetEvent::Rejected { reason: Reject::Oversize, .. })).await;
    node.until(|event| matches!(event, NetEvent::Down(node) if *node == id)).await;
    raw.closed().await;
    assert_eq!(node.net.snapshot().await.counters.closed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_stream_protocol_is_counted_and_a_little_of_it_forgiven() {
    let mut node = Node::start(1, |_| {}).await;
    let mut raw = Raw::connect(&node).await;
    raw.greet().await;
    node.up(raw.id()).await;
    raw.send(&[3, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff]).await;
    node.until(|event| matches!(event, NetEvent::Rejected { reason: Reject::Malformed, .. })).await;
    raw.say(&reject(1)).await;
    node.until(|event| matches!(event, NetEvent::Message { .. })).await;
    for _ in 0..9 {
        raw.send(&[3, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff]).await;
    }
    raw.closed().await;
    node.snapshot_until(|snapshot| snapshot.counters.rejected[&Reject::Malformed] == 9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_up_who_does_not_begin_with_a_hello_that_holds() {
    let mut node = Node::start(1, |_| {}).await;
    let impostor = |seed| {
        let mut hello = node::hello(&node::keys(seed));
        hello.agreement_signature[0] ^= 1;
        StreamMessage::Hello(hello)
    };
    let other = StreamMessage::Hello(node::hello(&node::keys(77)));
    let openings = [
        (30, reject(1), Reject::Unsolicited),
        (31, other, Reject::WrongPeer),
        (32, impostor(32), Reject::BadProof),
        (33, chunk(1, 100), Reject::Oversize),
    ];
    for (seed, opening, reason) in openings {
        let mut raw = Raw::connect_as(&node, seed).await;
        raw.say(&opening).await;
        raw.closed().await;
        node.until(|event| match event {
            NetEvent::Up(peer) => panic!("{} is up", peer.node),
            NetEvent::Rejected { reason: given, .. } => *given == reason,
            _ => false,
        })
        .await;
    }
    assert!(node.net.snapshot().await.peers.is_empty());

    let limit = Duration::from_millis(500);
    let node = Node::start(2, |config| config.limits.hello = limit).await;
    let mut silent = Raw::connect_as(&node, 34).await;
    silent.closed().await;
    assert!(node.net.snapshot().await.peers.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_stops_inside_a_frame_is_dropped() {
    let limits = NetLimits { stall: Duration::from_millis(300), ..NetLimits::brisk() };
    let mut node = Node::start(1, |config| config.limits = limits).await;
    let mut raw = Raw::connect(&node).await;
    raw.greet().await;
    node.up(raw.id()).await;
    raw.send(&[9, 0, 0, 0, 0, 0, 0, 0, 1, 2]).await;
    let id = raw.id();
    node.until(|event| matches!(event, NetEvent::Down(node) if *node == id)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_gossips_garbage_is_soon_not_heard_any_more() {
    let mut node = Node::start(1, |_| {}).await;
    let gossiper = Gossiper::connect(&node);
    let (topic, good) = answer(0);
    gossiper.publish(topic, codec::encode_topic(&good).to_vec()).await;
    node.until(|event| matches!(event, NetEvent::Message { via: Via::Topic, .. })).await;
    let bad = [vec![0xff; 50], vec![0xfe; 50], vec![0; 5000]];
    for bytes in bad {
        gossiper.publish(topic, bytes).await;
        node.until(|event| matches!(event, NetEvent::Rejected { .. })).await;
    }
    let rejected = node.net.snapshot().await.counters.rejected;
    let reasons = [(Reject::Oversize, 1), (Reject::Malformed, 2)];
    assert_eq!(rejected.into_iter().collect::<Vec<_>>(), reasons);

    // An honest neighbour is heard; what the other one said before is not.
    let (_, unheard) = answer(1);
    gossiper.publish(topic, codec::encode_topic(&unheard).to_vec()).await;
    let honest = Node::start(2, |config| config.bootstrap = vec![node.address.clone()]).await;
    node.up(honest.id()).await;
    for attempt in 2..100 {
        honest.net.publish(topic, answer(attempt).1);
        let heard = |event: &NetEvent| match event {
            NetEvent::Message { from, .. } => {
                assert_eq!(*from, honest.id());
                true
            }
            _ => false,
        };
        if node.within(Duration::from_millis(200), heard).await.is_some() {
            return;
        }
    }
    panic!("the honest neighbour was never heard");
}

/// Two connected nodes.
async fn pair(listen: &str) -> (Node, Node) {
    pair_with(listen, &NetLimits::brisk()).await
}

/// Likewise, both with these limits.
async fn pair_with(listen: &str, limits: &NetLimits) -> (Node, Node) {
    let listen = vec![listen.to_string()];
    let mut one = Node::start(1, |config| {
        config.listen = listen.clone();
        config.limits = limits.clone();
    })
    .await;
    let mut two = Node::start(2, |config| {
        config.listen = listen;
        config.limits = limits.clone();
        config.bootstrap = vec![one.address.clone()];
    })
    .await;
    one.up(two.id()).await;
    two.up(one.id()).await;
    (one, two)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_cannot_be_had_counts_not_and_matters_only_where_it_was_asked_for() {
    // TEST-NET-1 is no machine's, and nobody listens for WebSockets here, IPv6 or not.
    let (good, absent) = ("/ip4/127.0.0.1/tcp/0", "/ip4/192.0.2.1/tcp/0");
    let (optional, other) = ("/ip6/::/tcp/0/ws", "/ip4/127.0.0.1/udp/0/quic-v1");
    let listen = |addresses: &[&str]| addresses.iter().map(ToString::to_string).collect();
    let node = Node::start(1, |config| config.listen = listen(&[good, optional])).await;
    assert_eq!(node.net.listeners(), 1);
    let node = Node::start(2, |config| config.listen = listen(&[other, good])).await;
    assert_eq!(node.net.listeners(), 2);
    let refused = Node::try_start(3, |config| config.listen = listen(&[good, absent]));
    let Err(NetError::Listen { address, reason }) = refused.map(drop) else { panic!("listens") };
    assert_eq!(address, absent);
    assert!(reason.contains("Cannot assign") && !reason.starts_with(':'), "{reason}");
}
