//! The fake holders, and how each treats what it is sent.

use super::*;

/// How a fake holder treats what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    /// Does all that it should.
    Honest,
    /// Claims, and then says nothing.
    Silent,
    /// Says nothing at all.
    Deaf,
    /// Claims, and refuses chunks.
    Refuses(StoreRefusal),
    /// Signs its acks with another key.
    Forges,
    /// Cites a receipt of other bytes.
    WrongReceipt,
    /// Promises less than was asked.
    ShortLease,
    /// Names another store in each ack.
    Fickle,
    /// Serves other bytes than asked for.
    WrongBytes,
    /// Does not hand chunks out.
    Withholds(RetrieveRefusal),
}

/// A fake holder.
pub(super) struct Fake {
    pub(super) keys: NodeKeys,
    pub(super) manners: Manners,
    pub(super) reach: Reach,
    pub(super) site: &'static str,
    pub(super) mesh: MeshId,
    /// Answers a dial.
    pub(super) reachable: bool,
    pub(super) epoch: StoreEpoch,
    pub(super) held: BTreeMap<ChunkId, (Header, Bytes)>,
    /// Chunks received, good or not, in order.
    pub(super) received: Vec<StoreChunk>,
    pub(super) acks: Vec<StoreAck>,
    pub(super) requests: Vec<Retrieve>,
}

impl Fake {
    pub(super) fn hello(&self) -> Hello {
        Hello {
            node: self.keys.node_id(),
            mesh: self.mesh,
            agreement: self.keys.agreement_key(),
            agreement_signature: self.keys.sign_agreement(),
            site: self.site.into(),
            operator: String::new(),
        }
    }

    pub(super) fn contact(&self) -> Contact {
        Contact { record: Bytes::from_static(b"a signed peer record"), hello: self.hello() }
    }

    pub(super) fn claim(&self, request: &StoreRequest) -> StoreClaim {
        let offers = request.offers.iter().enumerate();
        let held = offers.filter(|(_, offer)| self.held.contains_key(&offer.id));
        let holds = held.fold(0, |bits, (at, _)| bits | 1 << at);
        StoreClaim { holds, ..claim(request) }
    }

    pub(super) fn on_chunk(
        &mut self,
        mesh: MeshId,
        owner: NodeId,
        chunk: StoreChunk,
    ) -> Option<StreamMessage> {
        let id = chunk.header.id();
        let context = Context {
            operation: Operation::Store,
            mesh,
            verifier: Verifier::Node(self.keys.node_id()),
            asker: Some(owner),
            nonce: chunk.nonce,
            body_hash: StoreChunk::body_hash(&chunk.account, &chunk.terms, &chunk.tags),
        };
        assert!(verify_header(&chunk.header, &context, &chunk.proof), "a bad store proof");
        assert!(chunk.header.certifies(&chunk.sealed));
        self.received.push(chunk.clone());
        match self.manners {
            Manners::Silent => return None,
            Manners::Refuses(reason) => {
                let reject = StoreReject { batch: chunk.batch, id, reason };
                return Some(StreamMessage::StoreReject(reject));
            }
            _ => {}
        }
        if self.manners == Manners::Fickle {
            let [first, ..] = *self.epoch.as_bytes();
            self.epoch = StoreEpoch::from_bytes([first.wrapping_add(1); 16]);
        }
        self.held.insert(id, (chunk.header, chunk.sealed.clone()));
        let ack = self.ack(mesh, &chunk);
        self.acks.push(ack.clone());
        Some(StreamMessage::StoreAck(ack))
    }

    pub(super) fn ack(&self, mesh: MeshId, chunk: &StoreChunk) -> StoreAck {
        let id = chunk.header.id();
        let pair = self.keys.pair_key(&chunk.account).unwrap();
        let sealed: &[u8] = match self.manners {
            Manners::WrongReceipt => b"other bytes",
            _ => &chunk.sealed,
        };
        let receipt = receipt(&pair, &chunk.seed, &id, sealed);
        let mut terms = chunk.terms;
        if self.manners == Manners::ShortLease {
            terms.keep_after_silence_s -= 1;
        }
        let statement = AckStatement {
            mesh,
            account: chunk.account,
            batch: chunk.batch,
            epoch: self.epoch,
            terms,
            chunks: vec![AckedChunk { id, lease: LeaseNonce::from_bytes([2; 16]), receipt }],
        };
        let stranger = NodeKeys::from_seeds([1; 32], [2; 32], [3; 32]);
        let signer = if self.manners == Manners::Forges { &stranger } else { &self.keys };
        let signature = signer.sign(&statement.encode(&self.keys.node_id()));
        let AckStatement { account, batch, epoch, terms, chunks, .. } = statement;
        StoreAck { batch, account, epoch, terms, chunks, signature }
    }

    /// Whether this part of the ack is what an honest holder says to this chunk.
    pub(super) fn is_true(
        &self,
        mesh: MeshId,
        chunk: &StoreChunk,
        ack: &StoreAck,
        acked: &AckedChunk,
    ) -> bool {
        let StoreAck { batch, account, epoch, terms, chunks, signature } = ack.clone();
        let statement = AckStatement { mesh, account, batch, epoch, terms, chunks };
        let id = chunk.header.id();
        let expected = |pair| receipt(&pair, &chunk.seed, &id, &chunk.sealed);
        batch == chunk.batch
            && account == chunk.account
            && acked.id == id
            && self.keys.pair_key(&account).map(expected) == Some(acked.receipt)
            && statement.verify(&self.keys.node_id(), &signature)
    }

    pub(super) fn on_retrieve(
        &mut self,
        mesh: MeshId,
        owner: NodeId,
        retrieve: Retrieve,
    ) -> Option<StreamMessage> {
        let Retrieve { request, id, nonce, proof } = retrieve.clone();
        self.requests.push(retrieve);
        let refuse =
            |reason| Some(StreamMessage::RetrieveReject(RetrieveReject { request, reason }));
        match self.manners {
            Manners::Silent => return None,
            Manners::Withholds(reason) => return refuse(reason),
            _ => {}
        }
        let Some((header, sealed)) = self.held.get(&id) else {
            return refuse(RetrieveRefusal::NotHeld);
        };
        let context = Context {
            operation: Operation::Retrieve,
            mesh,
            verifier: Verifier::Node(self.keys.node_id()),
            asker: Some(owner),
            nonce,
            body_hash: body_hash(&[&request.to_le_bytes()]),
        };
        if !verify_header(header, &context, &proof) {
            return refuse(RetrieveRefusal::NotHeld);
        }
        let mut sealed = sealed.to_vec();
        if self.manners == Manners::WrongBytes {
            sealed[50] ^= 1;
        }
        let data = ChunkData { request, header: *header, sealed: sealed.into() };
        Some(StreamMessage::ChunkData(data))
    }
}

/// Of a node that wants everything.
pub(super) fn claim(request: &StoreRequest) -> StoreClaim {
    StoreClaim { contact: None, ephemeral: request.ephemeral, wants: u64::MAX, holds: 0 }
}
