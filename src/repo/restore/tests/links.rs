//! Links that a snapshot has, and links that somebody planted.

use super::*;
use std::os::unix::fs::symlink as plant;

#[test]
fn links_of_both_kinds_come_back() {
    let entries = vec![
        (folder("d"), Vec::new()),
        (file("d/first"), noise(300_000, 1)),
        (hard_link("d/second", "d/first"), Vec::new()),
        (symlink("d/up", "../../../etc"), Vec::new()),
        (symlink("loop", "loop"), Vec::new()),
        (hard_link("third", "d/first"), Vec::new()),
    ];
    let mut backup = Backup::of(&entries);
    let report = backup.restore();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.files, report.others), (1, 4));
    let inode = |name: &str| fs::metadata(backup.path().join(name)).unwrap().ino();
    assert_eq!((inode("d/first"), inode("d/first")), (inode("d/second"), inode("third")));
    let text = |name: &str| fs::read_link(backup.path().join(name)).unwrap();
    assert_eq!(text("d/up"), Path::new("../../../etc"));
    assert_eq!(text("loop"), Path::new("loop"));
}

#[test]
fn links_of_a_shared_snapshot_stay_within_the_target() {
    let entries = vec![
        (folder("d"), Vec::new()),
        (symlink("d/in", "../f"), Vec::new()),
        (symlink("d/out", "../../f"), Vec::new()),
        (symlink("d/root", "/etc/passwd"), Vec::new()),
        (symlink("d/trick", "in/../../.."), Vec::new()),
        (file("f"), b"x".to_vec()),
    ];
    let mut backup = Backup::of(&entries);
    let options = RestoreOptions { trust: Trust::Shared, ..RestoreOptions::default() };
    let report = backup.restore_with(&options, Existing::Refuse).unwrap();
    assert!(report.skipped.iter().all(|s| s.reason == SkipReason::LinkLeavesTarget));
    assert_eq!(report.skipped_count, 3);
    assert_eq!(backup.names(), ["d", "d/in", "f"]);
    let mut backup = Backup::of(&entries);
    let options = RestoreOptions { all_links: true, ..options };
    let report = backup.restore_with(&options, Existing::Refuse).unwrap();
    assert!(report.is_whole(), "{report:?}");
}

#[test]
fn a_hard_link_whose_first_name_was_not_restored_is_said() {
    let entries = vec![
        (folder("d"), Vec::new()),
        (file("d/first"), noise(1000, 1)),
        (folder("e"), Vec::new()),
        (hard_link("e/second", "d/first"), Vec::new()),
        (hard_link("e/third", "d/none"), Vec::new()),
    ];
    let mut backup = Backup::of(&entries);
    let options = RestoreOptions { below: b"e", ..RestoreOptions::default() };
    let report = backup.restore_with(&options, Existing::Refuse).unwrap();
    assert_eq!(report.skipped_count, 2);
    assert!(report.skipped.iter().all(|s| s.reason == SkipReason::FirstNameMissing));
    // A file that was there before is not one of this run.
    let mut backup = Backup::of(&entries);
    fs::create_dir_all(backup.path().join("d")).unwrap();
    fs::write(backup.path().join("d/none"), b"mine").unwrap();
    fs::write(backup.path().join("d/first"), b"mine").unwrap();
    let report = backup.restore_with(&RestoreOptions::default(), Existing::Keep).unwrap();
    assert_eq!((report.files, report.others, report.skipped_count), (0, 0, 3));
}

#[test]
fn a_planted_link_is_an_error_not_a_path() {
    for existing in [Existing::Keep, Existing::Replace] {
        let mut backup = Backup::of(&small());
        let outside = backup.folder.path().join("outside");
        fs::create_dir_all(&outside).unwrap();
        fs::create_dir_all(backup.path()).unwrap();
        plant(&outside, backup.path().join("a")).unwrap();
        let report = backup.restore_with(&RestoreOptions::default(), existing).unwrap();
        let paths: Vec<_> = report.skipped.iter().map(|s| s.path.as_slice()).collect();
        assert_eq!(paths, [&b"a"[..], b"a/empty", b"a/none", b"a/one"], "{report:?}");
        assert!(report.skipped.iter().all(|s| s.reason == SkipReason::NotAFolder));
        assert_eq!(report.files, 3, "the rest is restored");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert_eq!(fs::read_link(backup.path().join("a")).unwrap(), outside);
    }
}

#[test]
fn a_planted_journal_is_refused() {
    let mut backup = Backup::of(&small());
    let id = RestoreOptions::default().id(&backup.root);
    let journal = backup.path().join(journal::journal_name(&id));
    let outside = backup.folder.path().join("outside");
    fs::create_dir_all(backup.path()).unwrap();
    fs::write(&outside, b"precious").unwrap();
    let plants: [&dyn Fn(); 3] = [
        &|| plant(&outside, &journal).unwrap(),
        &|| fs::hard_link(&outside, &journal).unwrap(),
        &|| metadata::plant_pipe(&journal),
    ];
    for plant in plants {
        plant();
        let refused = backup.restore_with(&RestoreOptions::default(), Existing::Refuse);
        assert!(matches!(refused, Err(RestoreError::NotOurs { .. })), "{refused:?}");
        fs::remove_file(&journal).unwrap();
    }
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
}
