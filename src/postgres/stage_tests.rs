//! Every interruption of a replacement, beside the directory and inside it: what a crash leaves is
//! the old directory whole, the new one whole, or something nobody can start.

use super::*;

struct Place {
    root: PathBuf,
    data_dir: PathBuf,
}

impl Place {
    fn new(test: &str) -> Self {
        let id = std::process::id();
        let root = std::env::temp_dir().join(format!("pgwarden-stage-{id}-{test}"));
        drop(fs::remove_dir_all(&root));
        fs::create_dir_all(&root).unwrap();
        Self {
            data_dir: root.join("data"),
            root,
        }
    }

    /// A stage as [`Stage::begin`] would make, of a chosen kind and place.
    fn stage(&self, kind: Kind, in_place: bool, phase: Phase) -> Stage {
        let stage = Stage::located(&self.data_dir, kind, in_place);
        fs::create_dir_all(stage.target()).unwrap();
        stage.write_note(phase).unwrap();
        stage
    }

    fn holds(&self, name: &str) {
        let shown = durable::names(&self.data_dir).unwrap();
        assert!(
            shown.iter().any(|found| found == Path::new(name)),
            "{name} not in {shown:?}"
        );
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.root));
    }
}

fn fill(dir: &Path, names: &[&str]) {
    fs::create_dir_all(dir).unwrap();
    for name in names {
        fs::write(dir.join(name), *name).unwrap();
    }
}

#[test]
fn a_finished_stage_leaves_the_new_directory_alone() {
    for in_place in [false, true] {
        let place = Place::new(&format!("finish-{in_place}"));
        fill(&place.data_dir, &["old", "PG_VERSION", ".pgwarden.lock"]);
        let stage = place.stage(Kind::Clone, in_place, Phase::Building);
        fill(&stage.target(), &["new", "PG_VERSION"]);
        stage.finish().unwrap();
        place.holds("new");
        assert!(!place.data_dir.join("old").exists());
        // A lock that lives in a mounted directory stays the same file.
        assert_eq!(place.data_dir.join(".pgwarden.lock").exists(), in_place);
        assert_eq!(look(&place.data_dir).unwrap(), None);
    }
}

#[test]
fn a_complete_replacement_is_finished_after_any_interruption() {
    for in_place in [false, true] {
        for (phase, moved_out, moved_in) in [
            (Phase::Complete, false, false),
            (Phase::Complete, true, false),
            (Phase::Swapping, true, false),
            (Phase::Swapping, true, true),
        ] {
            let place = Place::new(&format!(
                "settle-{in_place}-{phase:?}-{moved_out}-{moved_in}"
            ));
            fill(&place.data_dir, &["old", "PG_VERSION"]);
            let stage = place.stage(Kind::Clone, in_place, phase);
            fill(&stage.target(), &["new", "PG_VERSION"]);
            if moved_out && in_place && !moved_in {
                // Halfway through the entries.
                fs::create_dir_all(stage.root.join("old")).unwrap();
                fs::rename(place.data_dir.join("old"), stage.root.join("old/old")).unwrap();
                if phase == Phase::Swapping {
                    let from = place.data_dir.join("PG_VERSION");
                    fs::rename(from, stage.root.join("old/PG_VERSION")).unwrap();
                    fs::rename(stage.target().join("new"), place.data_dir.join("new")).unwrap();
                }
            } else if moved_out {
                stage.move_out().unwrap();
            }
            if moved_in {
                stage.move_in().unwrap();
            }
            let again = Stage::begin(&place.data_dir, Kind::Clone, None);
            assert!(matches!(again, Err(StageError::Unsettled(_))), "{again:?}");
            assert_eq!(
                settle(&place.data_dir).unwrap(),
                Settled::Finished(Kind::Clone)
            );
            place.holds("new");
            place.holds("PG_VERSION");
            assert!(!place.data_dir.join("old").exists());
            assert_eq!(settle(&place.data_dir).unwrap(), Settled::Nothing);
        }
    }
}

#[test]
fn an_unfinished_clone_leaves_the_old_directory_and_is_wiped_by_the_next() {
    let place = Place::new("unfinished");
    fill(&place.data_dir, &["old"]);
    let proof = ReplaceProof::granted("test");
    let stage = Stage::begin(&place.data_dir, Kind::Clone, Some(&proof)).unwrap();
    fill(&stage.target(), &["half"]);
    drop(stage);
    assert_eq!(
        settle(&place.data_dir).unwrap(),
        Settled::Unfinished(Some(Kind::Clone))
    );
    place.holds("old");
    let stage = Stage::begin(&place.data_dir, Kind::Clone, Some(&proof)).unwrap();
    assert!(!stage.target().exists());
    stage.abandon().unwrap();
    assert_eq!(look(&place.data_dir).unwrap(), None);
    place.holds("old");
}

#[test]
fn a_present_directory_is_replaced_only_with_a_proof() {
    let place = Place::new("proof");
    fill(&place.data_dir, &["old"]);
    for kind in [Kind::Initdb, Kind::Clone] {
        let refused = Stage::begin(&place.data_dir, kind, None);
        assert!(matches!(refused, Err(StageError::WouldReplace(_))));
    }
    assert_eq!(look(&place.data_dir).unwrap(), None);
}

#[test]
fn a_rewind_that_died_leaves_nothing_to_start_and_only_a_clone_replaces_it() {
    for in_place in [false, true] {
        let place = Place::new(&format!("rewind-{in_place}"));
        fill(&place.data_dir, &["old", "PG_VERSION"]);
        let stage = if in_place {
            let stage = place.stage(Kind::Rewind, true, Phase::Gathering);
            stage.gather().unwrap();
            stage.write_note(Phase::Building).unwrap();
            stage
        } else {
            Stage::begin(&place.data_dir, Kind::Rewind, None).unwrap()
        };
        assert!(stage.target().join("PG_VERSION").exists());
        assert!(!place.data_dir.join("PG_VERSION").exists());
        drop(stage);
        assert!(broken_rewind(&place.data_dir));
        assert_eq!(
            settle(&place.data_dir).unwrap(),
            Settled::Unfinished(Some(Kind::Rewind))
        );
        // A copy without a running primary might replace the last one there is.
        for kind in [Kind::Initdb, Kind::Rewind, Kind::Clone] {
            let refused = Stage::begin(&place.data_dir, kind, None);
            assert!(
                matches!(refused, Err(StageError::BrokenRewind(_))),
                "{refused:?}"
            );
        }
        let proof = ReplaceProof::granted("the test");
        Stage::begin(&place.data_dir, Kind::Clone, Some(&proof))
            .unwrap()
            .abandon()
            .unwrap();
        assert!(!broken_rewind(&place.data_dir));
    }
}

#[test]
fn a_rewind_interrupted_before_it_wrote_is_moved_back() {
    for in_place in [false, true] {
        let place = Place::new(&format!("back-{in_place}"));
        fill(&place.data_dir, &["one", "two"]);
        let stage = Stage::located(&place.data_dir, Kind::Rewind, in_place);
        fs::create_dir_all(&stage.root).unwrap();
        stage.write_note(Phase::Gathering).unwrap();
        if in_place {
            fs::create_dir_all(stage.target()).unwrap();
            fs::rename(place.data_dir.join("one"), stage.target().join("one")).unwrap();
        } else {
            stage.gather().unwrap();
        }
        assert_eq!(settle(&place.data_dir).unwrap(), Settled::MovedBack);
        place.holds("one");
        place.holds("two");
    }
}

#[test]
fn a_strangers_directory_is_never_taken_for_a_stage() {
    let place = Place::new("foreign");
    fill(&place.root.join("data.pgwarden-new"), &["precious"]);
    assert!(matches!(
        settle(&place.data_dir),
        Err(StageError::Foreign(_))
    ));
    let begun = Stage::begin(&place.data_dir, Kind::Clone, None);
    assert!(matches!(begun, Err(StageError::Foreign(_))));
    assert!(place.root.join("data.pgwarden-new/precious").exists());
}

#[test]
fn a_directory_that_is_filled_in_place_never_counts_before_it_is_full_and_what_was_there_comes_back()
 {
    use crate::ha::model::DataDir;
    use crate::postgres::data_dir::classify;
    let place = Place::new("filling");
    let proof = ReplaceProof::granted("the test");
    fill(&place.data_dir, &["old", "PG_VERSION"]);
    let begin = |keep| Stage::begin_filling(&place.data_dir, Kind::Clone, keep, Some(&proof));
    // Killed: the next agent finds what was there before.
    let stage = begin(false).unwrap();
    assert_eq!(stage.target(), place.data_dir.canonicalize().unwrap());
    fill(&place.data_dir, &["PG_VERSION"]);
    assert_eq!(classify(&place.data_dir, 15), DataDir::Unfinished);
    drop(stage);
    assert!(matches!(begin(false), Err(StageError::Unsettled(_))));
    assert_eq!(settle(&place.data_dir).unwrap(), Settled::MovedBack);
    assert!(place.data_dir.join("old").exists());
    assert_eq!(look(&place.data_dir).unwrap(), None);
    // Failed: the same at once.
    let stage = begin(false).unwrap();
    fill(&place.data_dir, &["new"]);
    stage.abandon().unwrap();
    assert!(place.data_dir.join("old").exists() && !place.data_dir.join("new").exists());
    // Worked on where it was: spent, and the next one begins with nothing.
    let stage = begin(true).unwrap();
    assert!(place.data_dir.join("old").exists());
    stage.abandon().unwrap();
    assert_eq!(classify(&place.data_dir, 15), DataDir::Unfinished);
    let stage = Stage::begin_filling(&place.data_dir, Kind::Clone, false, None).unwrap();
    assert!(!place.data_dir.join("old").exists());
    fill(&place.data_dir, &["new"]);
    stage.finish().unwrap();
    assert_eq!(look(&place.data_dir).unwrap(), None);
    assert!(place.data_dir.join("new").exists());
}
