//! What is admitted and remembered, without a node.

use super::*;

fn request(paths: &[&str]) -> BackupRequest {
    let paths = paths.iter().map(PathBuf::from).collect();
    BackupRequest { paths, replicas: 3, ..BackupRequest::default() }
}

fn done(replicas: u8) -> BackupDone {
    BackupDone {
        snapshot: "ab".repeat(32),
        dry_run: false,
        files: 1,
        unchanged: 0,
        bytes: 2,
        new_bytes: 3,
        new_chunks: 4,
        replicas,
        target: 3,
        seconds: 0.5,
        partial: false,
        faults: 0,
        fault_lines: Vec::new(),
        notes: Vec::new(),
    }
}

/// Those of a node that stays, with one that runs for each of these sets of paths.
fn running(all: &[&[&str]]) -> Detached {
    let detached = Detached::default();
    detached.jobs().is_open = true;
    for of in all {
        let request = request(of);
        let paths = paths(&request.paths);
        assert_eq!(detached.jobs().admit(&paths, &request).unwrap(), None, "{of:?}");
        detached.jobs().running.insert(paths, Job::new(request));
    }
    detached
}

fn admit(detached: &Detached, request: &BackupRequest) -> Result<Option<BackupStarted>, Failure> {
    detached.jobs().admit(&paths(&request.paths), request)
}

fn end(detached: &Detached, of: &[&str], ended: Result<BackupDone, Failure>) {
    detached.jobs().end(&paths(&request(of).paths), ended);
}

#[test]
fn the_same_backup_runs_once_and_another_one_of_its_paths_waits() {
    let detached = running(&[&["/a", "/b"]]);
    let again = admit(&detached, &request(&["/a", "/b"])).unwrap().unwrap();
    assert!(again.already && again.snapshot.is_none(), "{again:?}");
    let turned = admit(&detached, &request(&["/b/", "/a"])).unwrap_err();
    assert!(turned.why.contains("other options"), "the tree is another one: {turned:?}");
    let tagged = BackupRequest { tags: vec!["new".to_owned()], ..request(&["/a", "/b"]) };
    assert_eq!(admit(&detached, &tagged).unwrap_err().kind, FailureKind::Failed);
    assert_eq!(admit(&detached, &request(&["/a"])).unwrap(), None, "other paths");
    end(&detached, &["/a", "/b"], Ok(done(3)));
    assert_eq!(admit(&detached, &tagged).unwrap(), None);
}

#[test]
fn a_node_of_a_single_command_takes_none_and_neither_does_one_that_is_full() {
    let failure = admit(&Detached::default(), &request(&["/a"])).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Usage);
    assert!(failure.hint.contains("quloud up"), "{failure:?}");
    let names: Vec<String> = (0..RUNNING_MAX).map(|number| format!("/{number}")).collect();
    let all: Vec<[&str; 1]> = names.iter().map(|name| [name.as_str()]).collect();
    let all: Vec<&[&str]> = all.iter().map(|of| of.as_slice()).collect();
    let detached = running(&all);
    assert!(admit(&detached, &request(&["/more"])).is_err());
    end(&detached, &["/3"], Ok(done(3)));
    assert_eq!(admit(&detached, &request(&["/more"])).unwrap(), None);
}

#[test]
fn how_the_last_one_of_each_set_of_paths_ended_is_told_until_the_next() {
    let detached = running(&[&["/a"], &["/b"], &["/c"]]);
    end(&detached, &["/a"], Err(failures::backup(FailureKind::Failed, "it broke", "mend it")));
    end(&detached, &["/b"], Ok(done(2)));
    let told = detached.told();
    let paths_told: Vec<&str> = told.iter().map(|of| of.paths[0].as_str()).collect();
    assert_eq!(paths_told, ["/c", "/b", "/a"], "what runs, then the newest end first");
    let attention = attention(&told);
    assert!(attention[0].contains("/a made no snapshot: it broke; mend it"), "{attention:?}");
    assert_eq!(attention.len(), 1, "of a snapshot the catalogue tells");
    detached.made(&["/a/".into()]);
    assert!(detached.told().iter().all(|of| of.paths != ["/a"]), "whoever waited for it");
    let many = (0..2 * ENDED_MAX).map(|number| format!("/{number}"));
    for path in many {
        let request = request(&[&path]);
        let of = paths(&request.paths);
        detached.jobs().running.insert(of, Job::new(request));
        end(&detached, &[&path], Ok(done(3)));
    }
    assert_eq!(detached.told().len(), 1 + ENDED_MAX);
}

#[test]
fn many_paths_are_told_by_the_first_of_them() {
    let many: Vec<String> = (0..2_000).map(|number| format!("/photos/{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let detached = running(&[&many]);
    let told = detached.told().remove(0).paths;
    assert_eq!((told[0].as_str(), told[told.len() - 1].as_str()), ("/photos/0", ".."));
    let bytes: usize = told.iter().map(String::len).sum();
    assert!(bytes <= TOLD_BYTES_MAX + 2 && bytes > TOLD_BYTES_MAX / 2, "{bytes}");
    assert_eq!(fitting([String::from("x").repeat(9_000)].into_iter()).len(), 1);
}

#[test]
fn what_ends_while_the_node_stops_is_not_remembered() {
    let detached = running(&[&["/a"]]);
    detached.stop();
    end(&detached, &["/a"], Err(failures::backup_stopped()));
    assert!(detached.told().is_empty());
    assert!(admit(&detached, &request(&["/a"])).is_err());
}
