//! Files that were put and are named only after a long while: what they named nothing kept, so
//! another device may have released it meanwhile.
//!
//! Their holders are asked before the snapshot is published. It is published whatever they say, as
//! it keeps what is left; and where chunks lack replicas that some node could take, the file is put
//! once more, if it is there and is what it was.

use crate::core::types::ChunkId;
use crate::node::check::{Belief, check};
use crate::node::chunks::Chunks;
use crate::node::failures;
use crate::node::inner::Inner;
use crate::node::put::seconds_since_1970;
use crate::node::report::Failure;
use crate::repo::catalog::{Catalog, Entry, PutStarted, SnapshotDue};
use crate::repo::put::file::SourceFile;
use crate::repo::tree::{self, Content, What, few};
use bytes::Bytes;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// How long a listing may take.
const CHUNK_PATIENCE: Duration = Duration::from_secs(10);

/// Asks for the chunks of files that were put, as far as what holders said before is not believed,
/// and puts what lacks some again.
///
/// # Errors
/// The node stops, or its catalogue takes nothing.
pub(super) async fn store_what_went(
    inner: &Arc<Inner>,
    due: &[SnapshotDue],
    belief: Belief,
) -> Result<(), Failure> {
    for due in due {
        let entries = few::decode(Bytes::copy_from_slice(&due.entries)).unwrap_or_default();
        let Some(file) = entries.into_iter().next_back() else { continue };
        let chunks = chunks_of(inner, &file).await?;
        let checked = check(inner, &chunks, due.replicas, belief).await?;
        if checked.short == 0 {
            continue;
        }
        let path = PathBuf::from(OsString::from_vec([b"/", file.path.as_slice()].concat()));
        let (short, path_shown) = (checked.short, path.display());
        tracing::warn!(short, path = %path_shown, "a file that was put lacks replicas by now");
        if checked.storable > 0 {
            put_again(inner, due, &file, path).await?;
        }
    }
    Ok(())
}

/// All chunks of a file, as far as its listings can be read.
async fn chunks_of(inner: &Arc<Inner>, file: &tree::Entry) -> Result<Vec<ChunkId>, Failure> {
    let What::File(body) = &file.what else { return Ok(Vec::new()) };
    let Content::Listing(root) = &body.content else { return Ok(Vec::new()) };
    let (root, mut chunks) =
        (root.duplicate(), Chunks::fetched(inner, Handle::current(), CHUNK_PATIENCE));
    let read = move || {
        let mut ids: Vec<ChunkId> = chunks.pieces(&root).iter().map(|piece| piece.id).collect();
        ids.push(root.id);
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|error| failures::died("the reader", &error))
}

/// Begins another put of the file, which the outbox takes up.
async fn put_again(
    inner: &Arc<Inner>,
    due: &SnapshotDue,
    file: &tree::Entry,
    path: PathBuf,
) -> Result<(), Failure> {
    let at = path.clone();
    let opened =
        tokio::task::spawn_blocking(move || SourceFile::open(&at).ok().map(|it| it.stamp()));
    let stamp = opened.await.map_err(|error| failures::died("the reader", &error))?;
    let is_it = |bytes| matches!(&file.what, What::File(body) if body.bytes == bytes);
    let stamp = stamp.filter(|stamp| is_it(stamp.bytes) && stamp.modified_ns == file.mtime_ns);
    let Some(stamp) = stamp else {
        tracing::warn!(path = %path.display(), "it is not there any more as it was put");
        return Ok(());
    };
    let started = |catalog: &mut Catalog| {
        catalog.record(Entry::PutStarted(PutStarted {
            job: catalog.next_job(),
            path,
            bytes: stamp.bytes,
            modified_ns: stamp.modified_ns,
            replicas: due.replicas,
            locality: inner.keys.locality(),
            started_at: seconds_since_1970(),
        }))
    };
    inner.with_catalog(started).map_err(|error| failures::catalog(&error))?;
    inner.commit_catalog().await
}
