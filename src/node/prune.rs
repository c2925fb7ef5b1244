//! `prune`: holders let go what no live snapshot of any device needs.
//!
//! ```text
//! heads, all ─▶ what may go ─▶ intent ─▶ grace ─▶ heads anew ─▶ what may go
//!   ─▶ [ note: not known as stored ─▶ release ] by batches ─▶ heads anew ─▶ take back ─▶ done
//! ```
//! Nothing that was found before is believed again: a prune that goes on after it was broken off
//! reads all heads anew. At each step it can end without loss:
//! - Until the intent, nothing has happened. The intent is published and noted; whoever comes next
//!   waits for the rest of its grace, and goes on with it.
//! - What is about to be released is noted first, durably: from then on no backup of this device
//!   takes it for stored, whether the release came to the holder or not, nor what the holder
//!   acknowledges before it comes to that: see [`settle`]. While chunks are released no backup and
//!   no put of this device runs.
//! - Another device may publish a snapshot in the meantime that names a chunk of those, because it
//!   was stored before. If it did before the second look, this takes the release back; a prune that
//!   died before that is finished [first](finish), also when a node starts, and one stays open
//!   while a holder that was asked to let go has not answered. If it did later, it finds the
//!   intent, or that it is done, after its publication, and [looks](super::after) itself. Holders
//!   keep what they let go for the release delay: for all of that there are days.
//!
//! **Files that are put** are known to this folder's catalogue alone until a snapshot names them.
//! Nothing of one that its user was told is stored goes, whatever was forgotten:
//! - It is told after its root is durably noted, and with it that its snapshot is due, if it has
//!   one. What a noted root leads to stays as if a snapshot named it, until the snapshot that was
//!   made of it is forgotten and none is due; a root without a snapshot stays for ever.
//! - Before that there is no root, or one that came short, and an own prune may let its chunks go
//!   between two tries. Each try offers all chunks of the file anew, so it ends well only if as
//!   many holders as are wanted said within this very try that they have each of them; from before
//!   its first offer until its root is noted no prune of this device lets anything go. What is left
//!   is a release of before that a holder comes to only then: see [`settle`].
//! - A try that is broken off leaves no root and was told to nobody; the outbox has it.
//!
//! Prunes of other devices do not know of such a file before its snapshot is published. What they
//! let go until then its [look](super::after) finds, or what asks for the chunks of files that are
//! named late; of a file without a snapshot nobody else ever hears, which PROTOCOL.md warns of.
//!
//! Which chunks may go, and whose forgets count: see [`prunes`](crate::repo::prunes).

mod end;
mod holders;
mod plan;
mod settle;
mod tell;

use super::backup::Wish;
use super::failures;
use super::handle::NodeHandle;
use super::heard::heard;
use super::inner::Inner;
use super::put::seconds_since_1970;
use super::report::{ACCEPTED_DIGITS_MIN, Failure, FailureKind, Progress, PruneDone, PruneRequest};
use crate::core::codec::QUORUM_MAX;
use crate::core::types::SnapshotId;
use crate::crypto::keys::DeleteKey;
use crate::repo::catalog::{Entry, OpenPrune, PruneNote, SnapshotForgotten};
use crate::repo::manifest::{Body, PruneIntent};
pub(super) use end::finish_later;
use end::{done, finish, is_unfinished, publish};
use holders::Holders;
pub(super) use holders::take_back;
use plan::{Plan, Sought};
pub(super) use plan::{files_put, files_stored};
pub(super) use settle::Settled;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tell::Teller;
use tokio::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard, mpsc};

/// Replicas where nothing was published yet.
const REPLICAS: u8 = 3;

/// Between two looks whether no backup runs.
const ALONE_PAUSE: Duration = Duration::from_millis(200);

/// How long it may take to tell the others that nothing comes of a prune.
const CALL_OFF_PATIENCE: Duration = Duration::from_secs(20);

const NOTHING: &str = "nothing was let go";

/// Where a prune may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Its intent is published, and not noted.
    Announced,
    /// It is noted.
    Begun,
    /// The grace is over.
    Waited,
    /// The first batch is noted, and nothing of it released.
    Noted,
    /// The first batch is released.
    Batch,
    /// All is released.
    Released,
    /// The heads were read once more.
    Looked,
    /// What was needed was taken back.
    TakenBack,
    /// That it is done is published, and not noted.
    Published,
}

/// Ends the work where a test wants it to be as if the node was killed.
fn reached(inner: &Inner, step: Step) -> Result<(), Failure> {
    #[cfg(test)]
    {
        let ends = inner.prune_ends.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *ends == Some(step) {
            return Err(failures::stopped());
        }
    }
    let _ = (inner, step);
    Ok(())
}

impl NodeHandle {
    /// Lets go what no snapshot needs. Dropping the receiver ends it; the next one goes on.
    pub fn prune(&self, request: PruneRequest) -> mpsc::Receiver<Progress<PruneDone>> {
        let inner = Arc::clone(&self.inner);
        heard(move |progress| async move { run(&inner, &request, &progress).await })
    }
}

/// The only prune of this device that runs. Whoever wants to know whether one does looks at a flag:
/// who tried the lock would be taken for another prune by one that begins in that moment.
pub(super) struct OnlyPrune<'a> {
    inner: &'a Inner,
    _lock: MutexGuard<'a, ()>,
}

impl<'a> OnlyPrune<'a> {
    /// `None` where another one runs.
    pub(super) fn begin(inner: &'a Inner) -> Option<Self> {
        let lock = inner.pruning.try_lock().ok()?;
        inner.prunes.store(true, Ordering::Relaxed);
        Some(Self { inner, _lock: lock })
    }
}

impl Drop for OnlyPrune<'_> {
    fn drop(&mut self) {
        // Before the lock is free for the next one.
        self.inner.prunes.store(false, Ordering::Relaxed);
    }
}

/// Keeps prunes from letting anything go for as long as it is held. Waits for one that does.
pub(super) async fn keep_out<'a, T>(
    inner: &'a Inner,
    progress: &mpsc::Sender<Progress<T>>,
) -> RwLockReadGuard<'a, ()> {
    if let Ok(stays) = inner.letting_go.try_read() {
        return stays;
    }
    let note = Some("waiting for a prune".to_owned());
    let waiting = Progress::Working { bytes: 0, total: None, chunks: 0, replicas: None, note };
    // A full queue means that the listener is slow, or gone.
    drop(progress.try_send(waiting));
    inner.letting_go.read().await
}

/// One run.
struct Job<'a> {
    inner: &'a Arc<Inner>,
    request: &'a PruneRequest,
    wish: Wish,
    /// What other devices forgot, and the user says is right.
    accepted: Accepted,
    teller: Teller,
}

async fn run(
    inner: &Arc<Inner>,
    request: &PruneRequest,
    progress: &mpsc::Sender<Progress<PruneDone>>,
) -> Result<PruneDone, Failure> {
    let started = Instant::now();
    let Some(_only) = OnlyPrune::begin(inner) else { return Err(tell::busy()) };
    let replicas = request.replicas.or_else(|| inner.repository.replicas(inner));
    let replicas = replicas.unwrap_or(REPLICAS);
    if !(1..=QUORUM_MAX).contains(&replicas) {
        let why = format!("there can be 1 to {QUORUM_MAX} replicas");
        let hint = "`quloud prune --help` shows the options";
        return Err(Failure::new(FailureKind::Usage, NOTHING, why, hint));
    }
    let patience = Duration::from_secs(request.timeout_s.max(1));
    let accepted = accepted(inner, &request.accept_forgets)?;
    let teller = Teller::new(progress.clone());
    let job = Job { inner, request, wish: Wish { replicas, patience }, accepted, teller };
    let mut done = match request.dry_run {
        true => job.look().await?,
        false => {
            let delete = delete_key(inner, request)?;
            job.carry_out(&delete).await?
        }
    };
    done.notes.extend(job.accepted.notes);
    done.seconds = started.elapsed().as_secs_f64();
    Ok(done)
}

/// What other devices forgot and the user accepts by name. Settled before the heads are read, and
/// each is named by whoever types the command: a command that runs by itself every night accepts
/// nothing that nobody has seen.
#[derive(Debug, Default)]
struct Accepted {
    ids: BTreeSet<SnapshotId>,
    /// What was named and does not wait.
    notes: Vec<String>,
}

fn accepted(inner: &Inner, texts: &[String]) -> Result<Accepted, Failure> {
    let noted: Vec<SnapshotForgotten> = inner.with_catalog(|catalog| {
        let noted = catalog.noted_snapshots().filter_map(|noted| noted.forgotten);
        noted.filter(|forgotten| !forgotten.own).collect()
    });
    let mut accepted = Accepted::default();
    for text in texts {
        let text = text.trim().to_ascii_lowercase();
        if text.len() < ACCEPTED_DIGITS_MIN || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let why = format!("is not {ACCEPTED_DIGITS_MIN} or more digits of a snapshot's id");
            return Err(tell::not_an_id(&text, &why));
        }
        let mut meant = noted.iter().filter(|it| it.id.to_string().starts_with(&text));
        match (meant.next(), meant.next()) {
            (Some(_), Some(_)) => {
                return Err(tell::not_an_id(&text, "is how several begin that were forgotten"));
            }
            (Some(forgotten), None) => drop(accepted.ids.insert(forgotten.id)),
            (None, _) => {
                let what = "no snapshot waits that another device forgot and that begins with";
                accepted.notes.push(format!("{what} {text}"));
            }
        }
    }
    Ok(accepted)
}

/// The key that releases: the device's own, or the one that came with the request.
fn delete_key(inner: &Inner, request: &PruneRequest) -> Result<DeleteKey, Failure> {
    let Some(text) = &request.delete_key else {
        let own = inner.keys.delete.as_ref().ok_or_else(tell::no_delete_key)?;
        return Ok(DeleteKey::from_bytes(*own.expose()));
    };
    let key = text.key().filter(|key| key.public() == inner.keys.delete_root);
    key.ok_or_else(tell::wrong_words)
}

/// All that a prune has when it begins to let go.
struct Ready<'a> {
    open: OpenPrune,
    plan: Plan,
    holders: Holders<'a>,
    /// No backup and no put of this device runs.
    _alone: RwLockWriteGuard<'a, ()>,
}

impl<'a> Job<'a> {
    /// What would be let go.
    async fn look(&self) -> Result<PruneDone, Failure> {
        let plan = self.plan().await?;
        let mut holders = Holders::new(self.inner).await;
        holders.list(&plan.dead, &self.teller).await?;
        let mut done = plan.told(true);
        holders.would(&plan.dead, &mut done);
        done.chunks = holders.chunks_held();
        Ok(done)
    }

    async fn carry_out(&self, delete: &DeleteKey) -> Result<PruneDone, Failure> {
        self.accept().await?;
        self.finish_first().await?;
        let mut plan = self.admitted().await?;
        if plan.dead.is_empty() {
            if plan.is_idle(self.inner) {
                return self.nothing(&plan).await;
            }
            // What is needed again, and files that are over, are noted: no put may store or list
            // the same meanwhile. So it is planned once more when none runs.
            let _alone = alone(self.inner, &self.teller).await;
            plan = self.admitted().await?;
            if plan.dead.is_empty() {
                return self.nothing(&plan).await;
            }
        }
        // One that let something go before is for a later run to finish.
        let has_let_go = is_unfinished(self.inner);
        let mut ready = match self.ready(plan.others).await {
            Ok(ready) => ready,
            Err(failure) if has_let_go => return Err(failure),
            Err(failure) => return Err(self.give_up(failure).await),
        };
        let Ready { plan, holders, .. } = &mut ready;
        match holders.release(&plan.dead, delete, &self.teller).await {
            Ok(()) => {}
            Err(failure) if has_let_go || holders.has_asked() => return Err(failure),
            Err(failure) => return Err(self.give_up(failure).await),
        }
        reached(self.inner, Step::Released)?;
        self.look_back(ready).await
    }

    /// Goes on with a prune that was broken off when it had begun to let go.
    async fn finish_first(&self) -> Result<(), Failure> {
        self.teller.note("looking for what other prunes left");
        if !is_unfinished(self.inner) {
            return Ok(());
        }
        let alone = alone(self.inner, &self.teller).await;
        tell::whole(finish(self.inner, self.wish, &self.teller, alone).await?)
    }

    /// Announces it, gives other devices their time, and plans once more when nothing else of this
    /// device runs.
    async fn ready(&self, others: usize) -> Result<Ready<'a>, Failure> {
        let open = self.announce(others).await?;
        reached(self.inner, Step::Begun)?;
        self.wait(open, others).await;
        reached(self.inner, Step::Waited)?;
        let _alone = alone(self.inner, &self.teller).await;
        let plan = self.admitted().await?;
        if others == 0 && plan.others > 0 {
            return Err(tell::came_meanwhile());
        }
        let mut holders = Holders::new(self.inner).await;
        holders.list(&plan.dead, &self.teller).await?;
        Ok(Ready { open, plan, holders, _alone })
    }

    /// All is released: reads the heads once more, takes back what is needed, and tells the others.
    async fn look_back(&self, ready: Ready<'_>) -> Result<PruneDone, Failure> {
        let Ready { open, mut plan, mut holders, _alone } = ready;
        let sought = self.sought().await.map_err(tell::after)?;
        reached(self.inner, Step::Looked)?;
        let needed = plan.needed_meanwhile(self.inner, sought, &self.teller, self.wish.patience);
        let needed = needed.await.map_err(tell::after)?;
        let back = holders.take_back(&needed, self.wish.replicas, &self.teller).await?;
        reached(self.inner, Step::TakenBack)?;
        let released = holders.chunks_released();
        if back.open == 0 {
            done(self.inner, self.wish, open.prune, released).await?;
        }
        self.close(plan.prunable()).await?;
        tell::whole(back)?;
        let mut done = plan.told(false);
        holders.did(&mut done);
        done.prune = Some(open.prune.iter().map(|byte| format!("{byte:02x}")).collect());
        (done.chunks, done.taken_back) = (released, back.chunks);
        done.notes.extend(tell::open(back));
        Ok(done)
    }

    /// A plan by heads that were just read, if anything may be let go now. Puts that are not done
    /// need not be waited for: see the module.
    async fn admitted(&self) -> Result<Plan, Failure> {
        let sought = self.sought().await?;
        if sought.others > 0 && !self.request.beside_others {
            return Err(tell::several(sought.others));
        }
        self.planned(sought).await
    }

    /// Calls off what was announced, as nothing was let go: while it is open, every backup of
    /// another device asks for all that it names. Where that fails the intent stays, which the next
    /// run goes on with. Returns the failure it is for.
    async fn give_up(&self, failure: Failure) -> Failure {
        // Nothing is published while the node stops.
        if failure != failures::stopped() {
            let off = tokio::time::timeout(CALL_OFF_PATIENCE, self.call_off()).await;
            if !matches!(off, Ok(Ok(()))) {
                tracing::info!("a prune that was announced stays open");
            }
        }
        failure
    }

    /// Notes what the user accepts: it counts from now on, also for whoever goes on with this prune
    /// once it was broken off.
    async fn accept(&self) -> Result<(), Failure> {
        for id in &self.accepted.ids {
            let noted = self.inner.with_catalog(|catalog| catalog.noted_snapshot(id)?.forgotten);
            if let Some(forgotten) = noted.filter(|forgotten| !forgotten.accepted) {
                let accepted = SnapshotForgotten { accepted: true, ..forgotten };
                self.inner.record(Entry::Prune(PruneNote::SnapshotForgotten(accepted)))?;
            }
        }
        self.inner.commit_catalog().await
    }

    /// There is nothing to let go; what was let go before may have to be taken back.
    async fn nothing(&self, plan: &Plan) -> Result<PruneDone, Failure> {
        let mut holders = Holders::new(self.inner).await;
        let (needed, replicas) = (plan.needed_again(self.inner), self.wish.replicas);
        let back = holders.take_back(&needed, replicas, &self.teller).await?;
        if back.open == 0 {
            self.call_off().await?;
        }
        self.close(plan.prunable()).await?;
        tell::whole(back)?;
        let mut done = plan.told(false);
        done.taken_back = back.chunks;
        done.notes.extend(tell::open(back));
        Ok(done)
    }

    /// All that the owner's devices have, read anew.
    async fn sought(&self) -> Result<Sought, Failure> {
        self.teller.note("reading the heads of all devices");
        Sought::now(self.inner, &self.accepted.ids).await
    }

    async fn plan(&self) -> Result<Plan, Failure> {
        self.planned(self.sought().await?).await
    }

    async fn planned(&self, sought: Sought) -> Result<Plan, Failure> {
        let (teller, patience) = (self.teller.clone(), self.wish.patience);
        Plan::of(self.inner, sought, teller, patience).await
    }

    /// Publishes that chunks will be let go, or goes on with what was published before.
    async fn announce(&self, others: usize) -> Result<OpenPrune, Failure> {
        let is_heard = || others == 0 || self.inner.repository.is_own_head_kept(self.inner);
        if let Some(open) = self.inner.with_catalog(|catalog| catalog.open_prune()) {
            return if is_heard() { Ok(open) } else { Err(tell::unheard(0, self.wish.replicas)) };
        }
        // One that was published, and the node did not live to note it, has its grace once more.
        let left = self.inner.repository.own_open_prunes(self.inner).await.pop();
        let PruneIntent { prune, grace_s } = match left {
            Some(_) if !is_heard() => return Err(tell::unheard(0, self.wish.replicas)),
            Some(intent) => intent,
            None => {
                let grace_s = if others == 0 { 0 } else { self.request.grace_s };
                let intent = PruneIntent { prune: rand::random(), grace_s };
                self.teller.note("telling the other devices");
                let bodies = vec![Body::PruneIntent(intent)];
                let known = publish(self.inner, self.wish, bodies).await?;
                if others > 0 && known < usize::from(self.wish.replicas) {
                    return Err(tell::unheard(known, self.wish.replicas));
                }
                intent
            }
        };
        reached(self.inner, Step::Announced)?;
        let open = OpenPrune { prune, grace_s, at: seconds_since_1970() };
        self.inner.record(Entry::Prune(PruneNote::Begun(open)))?;
        self.inner.commit_catalog().await?;
        Ok(open)
    }

    /// Tells the others that nothing comes of what was published, if anything was.
    async fn call_off(&self) -> Result<(), Failure> {
        let noted = self.inner.with_catalog(|catalog| catalog.open_prune());
        let left = self.inner.repository.own_open_prunes(self.inner).await;
        let noted = noted.map(|open| open.prune);
        match noted.or_else(|| left.first().map(|intent| intent.prune)) {
            Some(prune) => done(self.inner, self.wish, prune, 0).await,
            None => Ok(()),
        }
    }

    /// Waits for the rest of the grace; a clock that was put back makes that all of it.
    async fn wait(&self, open: OpenPrune, others: usize) {
        let now = seconds_since_1970();
        // Whoever came to be known since is given as much as the others; where nobody was to be
        // given any, that begins now.
        let passed_s = if open.grace_s == 0 { 0 } else { now.saturating_sub(open.at) };
        let grace_s = if others == 0 { 0 } else { open.grace_s.max(self.request.grace_s) };
        let left = Duration::from_secs(u64::from(grace_s).saturating_sub(passed_s));
        self.teller.wait(left).await;
    }

    /// Notes what of snapshots and files is over.
    async fn close(&self, prunable: Vec<PruneNote>) -> Result<(), Failure> {
        prunable.into_iter().try_for_each(|note| self.inner.record(Entry::Prune(note)))?;
        self.inner.commit_catalog().await
    }
}

/// Waits until no backup and no put of this device runs. It does not stand in line: those that come
/// meanwhile would wait for a backup that takes days.
async fn alone<'a>(inner: &'a Inner, teller: &Teller) -> RwLockWriteGuard<'a, ()> {
    let _waits = Waits::begin(inner);
    loop {
        if let Ok(alone) = inner.letting_go.try_write() {
            return alone;
        }
        teller.note("waiting for backups and puts of this device");
        tokio::time::sleep(ALONE_PAUSE).await;
    }
}

/// Keeps the outbox from beginning more tries: there may always be some that nobody takes.
struct Waits<'a>(&'a Inner);

impl<'a> Waits<'a> {
    fn begin(inner: &'a Inner) -> Self {
        inner.prune_waits.store(true, Ordering::Relaxed);
        Self(inner)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.prune_waits.store(false, Ordering::Relaxed);
    }
}
