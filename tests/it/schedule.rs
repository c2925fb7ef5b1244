//! Backups of the settings with real processes: made by the node alone, and by name.

use crate::processes::{Lab, last_object};
use std::fs::OpenOptions;
use std::io::Write;

#[test]
fn a_node_makes_the_backups_of_its_settings_and_a_kill_neither_loses_nor_repeats_one() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(2);
    let (path, owner) = (lab.file("holiday", 1 << 20), &mut nodes[0]);
    let set = |text: String| {
        let file = OpenOptions::new().append(true).open(owner.dir.join("quloud.toml"));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    };
    set(format!("\n[[backup]]\nname = \"photos\"\npaths = [{:?}]\nreplicas = 1\n", path));
    let shown = owner.json(&["config", "show", "--json"]);
    assert_eq!(
        (&shown["backups"][0]["name"], &shown["backups"][0]["every"]),
        (&"photos".into(), &"daily".into())
    );
    owner.stop();
    owner.up();
    owner.wait_for("the first run", |status| {
        status["schedule"][0]["backup"]["state"] == "idle"
            && status["schedule"][0]["backup"]["result"].is_object()
    });
    owner
        .wait_for("the first drill", |status| status["schedule"][0]["drill"]["result"].is_object());
    owner.kill();

    let rest = owner.run(&["status", "--json"]);
    let before = last_object(&rest)["schedule"][0].clone();
    assert_eq!(
        (&before["backup"]["state"], &before["backup"]["result"]["replicas"]),
        (&"idle".into(), &1.into()),
        "{before}"
    );
    assert_eq!(before["backup"]["next_at"], serde_json::Value::Null);
    let text = String::from_utf8(owner.run(&["status"]).stdout).unwrap();
    assert!(text.contains("photos: daily, last "), "{text}");
    owner.up();
    owner.wait_for_peers(1);
    let listed = owner.json(&["snapshots", "--json"]);
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(1), "{listed}");

    let unknown = owner.run(&["backup", "--name", "music", "--json"]);
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    let made = owner.json(&["backup", "--name", "photos", "--json"]);
    let after = owner.status()["schedule"][0]["backup"].clone();
    assert_eq!(
        (&after["result"]["snapshot"], &after["failures"]),
        (&made["snapshot"], &0.into()),
        "{after}"
    );
    assert!(after["last_at"].as_u64() >= before["backup"]["last_at"].as_u64());

    // The node goes on with what it read; whoever asks by name is told so.
    let settings = owner.dir.join("quloud.toml");
    let mut file = OpenOptions::new().append(true).open(&settings).unwrap();
    let gone = lab.file("patterns", 10).with_file_name("gone");
    file.write_all(format!("exclude_file = [{gone:?}]\n").as_bytes()).unwrap();
    let checked = owner.json(&["config", "check", "--json"]);
    assert!(checked["warnings"][0].as_str().unwrap().contains("gone cannot be read"), "{checked}");
    std::fs::write(&gone, "*.tmp\n").unwrap();
    let made = owner.run(&["backup", "--name", "photos"]);
    let said = String::from_utf8(made.stderr).unwrap();
    assert!(said.contains("other settings for photos: restart it"), "{said}");
    file.write_all(b"exclude = [\"a[b\"]\n").unwrap();
    assert_eq!(owner.run(&["config", "check"]).status.code(), Some(2));
}
