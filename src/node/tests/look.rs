//! Looks into snapshots of a mesh of whole nodes.

use super::backup::{backup, folder, mesh};
use super::*;
use crate::node::report::{
    ChangeKind, DiffDone, DiffRequest, FailureKind, FindRequest, LsDone, LsRequest, NameKind,
    NameReport, Rows,
};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// All rows, and what came at their end.
pub(super) async fn rows<R, D>(mut list: Receiver<Rows<R, D>>) -> Result<(Vec<R>, D), Failure> {
    let mut all = Vec::new();
    loop {
        let part = timeout(PATIENCE, list.recv()).await.expect("it ends in time");
        match part.expect("the last part is `Done` or `Failed`") {
            Rows::Rows { rows } => all.extend(rows),
            Rows::Done(done) => return Ok((all, done)),
            Rows::Failed(failure) => return Err(failure),
        }
    }
}

fn wanted(snapshot: &str, path: &Path) -> LsRequest {
    let path = path.as_os_str().as_bytes().to_vec();
    let timeout_s = PATIENCE.as_secs();
    LsRequest { snapshot: snapshot.to_owned(), path, timeout_s, ..LsRequest::default() }
}

async fn ls(node: &TestNode, request: LsRequest) -> Result<(Vec<NameReport>, LsDone), Failure> {
    rows(node.handle().ls(request)).await
}

fn names(rows: &[NameReport]) -> Vec<&str> {
    rows.iter().map(|row| row.path.rsplit('/').next().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_a_snapshot_is_listed_and_its_names_are_inert() {
    let (owner, mut holders) = mesh(1).await;
    let path = folder(&owner);
    fs::write(path.join(OsStr::from_bytes(b"below/\xff\x1b[2J")), b"x").unwrap();
    let made = backup(&owner, &path, 1).await;
    let (found, done) = ls(&owner, wanted("latest", &path)).await.unwrap();
    assert_eq!(names(&found), ["below", "large", "link"]);
    assert_eq!((done.names, done.lost_names, &done.snapshot), (3, 0, &made.snapshot));
    let kinds: Vec<NameKind> = found.iter().map(|row| row.kind).collect();
    assert_eq!(kinds, [NameKind::Folder, NameKind::File, NameKind::Symlink]);
    assert_eq!((found[1].bytes, found[2].target.as_deref()), (3 << 20, Some("large")));
    assert!(found.iter().all(|row| row.line.is_none()));

    let lines = LsRequest { lines: true, ..wanted(&made.snapshot[..8], &path.join("below")) };
    let (below, _) = ls(&owner, lines).await.unwrap();
    assert_eq!(below.len(), 41);
    let odd = below.iter().find(|row| row.path.contains("\\xff")).unwrap();
    assert!(odd.path.ends_with("below/\\xff\\x1b[2J"), "{odd:?}");
    let line = odd.line.as_ref().unwrap();
    assert!(line.starts_with("-rw") && !line.chars().any(char::is_control), "{line}");
    let all = LsRequest { recursive: true, ..wanted("latest", Path::new("")) };
    let (all, _) = ls(&owner, all).await.unwrap();
    let within = all.iter().filter(|row| row.path.starts_with(path.to_str().unwrap()));
    assert_eq!(within.count(), 45, "the folder, 3 names and 41");
    let one = ls(&owner, wanted("latest", &path.join("large"))).await.unwrap().0;
    assert_eq!(names(&one), ["large"]);

    for request in [wanted("latest", &path.join("nothing")), wanted("ffff", &path)] {
        let failure = ls(&owner, request).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Usage, "{failure:?}");
    }
    // What was looked at once is here: nobody is asked for it again.
    holders[0].stop().await;
    owner.status_until(|status| status.peers == 0).await;
    let (again, done) = ls(&owner, wanted("latest", &path)).await.unwrap();
    assert_eq!(again, found);
    assert!(done.notes.iter().any(|note| note.contains("no other node")), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_snapshots_differ_in_what_was_changed_between_them() {
    let (owner, _holders) = mesh(1).await;
    let path = folder(&owner);
    let before = backup(&owner, &path, 1).await.snapshot;
    fs::write(path.join("below/7"), b"something else").unwrap();
    fs::remove_file(path.join("below/8")).unwrap();
    fs::write(path.join("new"), b"new").unwrap();
    let after = backup(&owner, &path, 1).await.snapshot;
    let request = |before: &str, after: &str, lines| DiffRequest {
        before: before.to_owned(),
        after: after.to_owned(),
        lines,
        timeout_s: PATIENCE.as_secs(),
    };
    let (found, done): (_, DiffDone) =
        rows(owner.handle().diff(request(&before[..8], "latest", false))).await.unwrap();
    let changes: Vec<(&str, ChangeKind)> = found
        .iter()
        .filter(|row| row.after.as_ref().or(row.before.as_ref()).unwrap().kind == NameKind::File)
        .map(|row| (row.path.rsplit('/').next().unwrap(), row.change))
        .collect();
    let expected =
        [("7", ChangeKind::Content), ("8", ChangeKind::Removed), ("new", ChangeKind::Added)];
    assert_eq!(changes, expected);
    assert_eq!((done.added.files, done.removed.files, done.changed_after.files), (1, 1, 1));
    assert_eq!((&done.before, &done.after), (&before, &after));
    let (lines, _) = rows(owner.handle().diff(request(&after, &before, true))).await.unwrap();
    let lines: Vec<&str> = lines.iter().map(|row| row.line.as_deref().unwrap()).collect();
    let removed = format!("-  {}", path.join("new").display());
    assert!(lines.contains(&removed.as_str()), "{lines:?}");
    let same = rows(owner.handle().diff(request(&after, &after, true))).await.unwrap();
    assert!(same.0.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_found_in_all_snapshots_or_in_those_that_are_named() {
    let (owner, _holders) = mesh(1).await;
    let path = folder(&owner);
    let first = backup(&owner, &path, 1).await.snapshot;
    fs::remove_file(path.join("below/17")).unwrap();
    let second = backup(&owner, &path, 1).await.snapshot;
    let request = |patterns: &[&str]| FindRequest {
        patterns: patterns.iter().map(|text| (*text).to_owned()).collect(),
        timeout_s: PATIENCE.as_secs(),
        ..FindRequest::default()
    };
    let find = async |request| rows(owner.handle().find(request)).await;
    let (found, done) = find(request(&["1[67]", "large"])).await.unwrap();
    let found: Vec<(&str, &str)> = found
        .iter()
        .map(|row| (row.snapshot.as_str(), row.name.path.rsplit('/').next().unwrap()))
        .collect();
    let (new, old) = (second.as_str(), first.as_str());
    let expected = [(new, "16"), (new, "large"), (old, "16"), (old, "17"), (old, "large")];
    assert_eq!(found, expected);
    assert_eq!((done.snapshots, done.names, done.lost_names), (2, 5, 0));

    let one = FindRequest { snapshots: vec!["latest".to_owned()], ..request(&["17"]) };
    assert!(find(one).await.unwrap().0.is_empty());
    let large = FindRequest { bytes_min: Some(1 << 20), ..request(&["*"]) };
    assert_eq!(find(large).await.unwrap().0.len(), 2, "one in each");
    let failure = find(request(&["[a"])).await;
    assert!(failure.is_err_and(|failure| failure.kind == FailureKind::Usage));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_that_nobody_has_is_said_and_not_taken_for_an_empty_one() {
    let (owner, mut holders) = mesh(1).await;
    let path = folder(&owner);
    let made = backup(&owner, &path, 1).await.snapshot;
    holders[0].stop().await;
    owner.status_until(|status| status.peers == 0).await;
    fs::remove_dir_all(owner.data().join("owner/meta")).unwrap();
    let request = LsRequest { timeout_s: 1, ..wanted(&made, &path) };
    let failure = ls(&owner, request).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotEnoughHolders, "{failure:?}");
    let find = FindRequest { patterns: vec!["7".to_owned()], timeout_s: 1, ..Default::default() };
    let (found, done) = rows(owner.handle().find(find)).await.unwrap();
    assert!(found.is_empty() && done.unread.len() == 1, "{done:?}");
}
