//! Room on a real small disk: predicted before a dump, watched while it runs, and never taken from PostgreSQL.

use super::Shop;
use crate::support::job::SmallDisk;
use crate::support::postgres::Postgres;

#[test]
fn a_dump_is_stopped_before_the_disk_is_full_and_the_next_one_succeeds_when_there_is_room() {
    let shop = Shop::new();
    shop.fill();
    let directory = shop.directory();
    let Some(disk) = SmallDisk::mount(&directory, "20m") else { return };
    shop.table("", ", min_free: 20%", "");
    let daemon = shop.host.daemon();
    let error = shop.error();
    let begin = "stopped before the disk was full: after ";
    let rest = error.strip_prefix(begin).unwrap_or_else(|| panic!("{error}"));
    let (written, rest) = rest.split_once(" bytes of the dump the file system of ").unwrap();
    assert!((10 << 20..=18 << 20).contains(&written.parse::<u64>().unwrap()), "{error}");
    let begin = format!("{} has ", directory.display());
    assert!(rest.starts_with(&begin), "{error}");
    let why = " free of 20.0 MiB, and to write on would leave less than 2.0 MiB, half of min_free (20%); the database has ";
    assert!(rest.contains(why), "{error}");
    assert!(
        error.ends_with("The unfinished file was removed: make room, and the next run will do"),
        "{error}"
    );
    assert_eq!(shop.names(), [""; 0]);
    assert_eq!(disk.free(), 20 << 20);
    shop.check_nothing_is_left();

    disk.resize("200m");
    assert_eq!(shop.run()["outcome"], "succeeded");
    let bytes = shop.manifest().bytes;
    assert!(bytes > 20 << 20, "{bytes}");

    // Another like it would fit, and leave too little.
    disk.resize(&(bytes * 22 / 10).to_string());
    let names = shop.names();
    let error = shop.error();
    let begin = format!("not started: the file system of {} has ", directory.display());
    assert!(error.starts_with(&begin), "{error}");
    assert!(error.contains(", and a dump like the last one ("), "{error}");
    assert!(error.ends_with("; min_free is 20%: make room, or lower min_free"), "{error}");
    assert_eq!(shop.names(), names);
    assert!(daemon.stop().success());
}

#[test]
fn where_postgresql_has_its_data_a_dump_leaves_it_room_whatever_min_free_says() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("disk");
    let Some(disk) = SmallDisk::mount(&place, "700m") else { return };
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let shop = Shop::on(Postgres::start_in(&place));
    shop.fill();
    let dumps = place.join("dumps");
    let directory = dumps.display();
    shop.table("", &format!(", min_free: 0%, compression: none, directory: {directory}"), "");
    let leave = 70 << 20;
    let filler = usize::try_from(disk.free() - leave).unwrap();
    std::fs::write(place.join("filler"), vec![1; filler]).unwrap();
    let daemon = shop.host.daemon();
    let error = shop.error();
    assert!(error.starts_with("stopped before the disk was full: after "), "{error}");
    let why = "and to write on would leave less than 35.0 MiB, which PostgreSQL, whose data is on it too, must not lack; ";
    assert!(error.contains(why), "{error}");
    assert!(disk.free() >= leave / 2, "{}", disk.free());
    shop.server.sql("shop", "CREATE TABLE later AS SELECT 1");

    std::fs::write(place.join("more"), vec![1; usize::try_from(disk.free() - (20 << 20)).unwrap()]).unwrap();
    let error = shop.error();
    let why =
        "PostgreSQL's data is on it too, and needs 35.0 MiB; min_free is 0%: make room, or lower min_free";
    assert!(error.starts_with("not started: ") && error.ends_with(why), "{error}");

    std::fs::remove_file(place.join("more")).unwrap();
    std::fs::remove_file(place.join("filler")).unwrap();
    assert_eq!(shop.run()["outcome"], "succeeded");
    assert!(daemon.stop().success());
}
