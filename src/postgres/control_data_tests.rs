//! Synthetic control files: built here from the documented layouts, with a valid CRC, not taken
//! from servers. Real ones are compared with `pg_controldata` in `tests/postgres.rs`.

use super::*;

/// A file of this version: every field holds a number of its own, so that a wrong offset shows.
fn synthetic(control_version: u32, crc_offset: usize) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    let mut put = |offset: usize, value: &[u8]| {
        bytes[offset..offset + value.len()].copy_from_slice(value);
    };
    put(0, &7_300_000_000_000_000_001_u64.to_le_bytes());
    put(8, &control_version.to_le_bytes());
    put(12, &202_209_061_u32.to_le_bytes());
    put(16, &5_u32.to_le_bytes());
    put(32, &0x0000_0001_0300_0148_u64.to_le_bytes());
    put(40, &0x0000_0001_0300_0110_u64.to_le_bytes());
    put(48, &3_u32.to_le_bytes());
    put(52, &2_u32.to_le_bytes());
    put(136, &0x0000_0001_0400_0000_u64.to_le_bytes());
    put(144, &4_u32.to_le_bytes());
    put(168, &[1]);
    put(172, &1_u32.to_le_bytes());
    put(176, &[1]);
    for (index, number) in [101_u32, 9, 11, 5, 65].into_iter().enumerate() {
        put(180 + 4 * index, &number.to_le_bytes());
    }
    put(228, &(16_u32 << 20).to_le_bytes());
    put(252, &1_u32.to_le_bytes());
    seal(&mut bytes, crc_offset);
    bytes
}

fn seal(bytes: &mut [u8], crc_offset: usize) {
    let crc = crc32c(&bytes[..crc_offset]);
    bytes[crc_offset..crc_offset + 4].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn crc32c_gives_the_published_check_value() {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
}

#[test]
fn every_known_layout_is_read() {
    for (version, crc_offset) in [(1300, 288), (1700, 288), (1800, 292)] {
        let data = ControlData::decode(&synthetic(version, crc_offset)).unwrap();
        assert_eq!(data.system_id, 7_300_000_000_000_000_001);
        assert_eq!(data.state, ControlState::InArchiveRecovery);
        assert_eq!(data.checkpoint.to_string(), "1/3000148");
        assert_eq!(data.redo.to_string(), "1/3000110");
        assert_eq!((data.timeline, data.previous_timeline), (3, 2));
        assert_eq!(data.min_recovery_timeline, 4);
        assert!(data.wal_log_hints && data.backup_end_required);
        assert_eq!(data.standby_minimums.max_connections, 101);
        assert_eq!(data.standby_minimums.max_locks_per_transaction, 65);
        assert_eq!(data.wal_segment_bytes, 16 << 20);
        assert_eq!(data.checksum_version, 1);
        let facts = data.facts(true, Vec::new());
        assert_eq!((facts.timeline, facts.lsn), (4, Lsn(0x1_0400_0000)));
    }
}

#[test]
fn a_flipped_bit_is_damage_and_nothing_is_believed() {
    let mut bytes = synthetic(1300, 288);
    bytes[33] ^= 1;
    assert!(matches!(
        ControlData::decode(&bytes),
        Err(ControlError::Damaged { .. })
    ));
}

#[test]
fn the_crc_of_one_major_is_not_looked_for_where_another_has_it() {
    assert!(ControlData::decode(&synthetic(1800, 288)).is_err());
    assert!(ControlData::decode(&synthetic(1300, 292)).is_err());
}

#[test]
fn foreign_files_are_refused() {
    assert!(matches!(
        ControlData::decode(&[0; 100]),
        Err(ControlError::Short(100))
    ));
    let old = ControlData::decode(&synthetic(1201, 288));
    assert!(matches!(old, Err(ControlError::UnknownVersion(1201))));
    let mut bytes = synthetic(1300, 288);
    bytes[16] = 9;
    seal(&mut bytes, 288);
    assert!(matches!(
        ControlData::decode(&bytes),
        Err(ControlError::UnknownState(9))
    ));
}
