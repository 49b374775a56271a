use protocol::ids::Digest;

use super::*;

/// Digests of the migrations that are released, in their order.
const RELEASED: &[&str] = &["7b538e48b8059695d21fca0d091b33305097084e95c0ddcbecdafd29f18b2e5e"];

#[test]
fn released_migrations_are_never_edited() {
    for (released, migration) in RELEASED.iter().zip(MIGRATIONS) {
        assert_eq!(Digest::of(migration.as_bytes()).to_string(), *released, "{migration}");
    }
    assert!(RELEASED.len() <= MIGRATIONS.len(), "a released migration is gone");
}

/// A database of today's schema with one object.
fn filled() -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection, 0, MIGRATIONS).unwrap();
    connection.execute("INSERT INTO objects VALUES ('Cluster', '', 'a', 1, '{}')", []).unwrap();
    connection
}

fn objects(connection: &Connection) -> u32 {
    connection.query_row("SELECT count(*) FROM objects", [], |row| row.get(0)).unwrap()
}

#[test]
fn an_older_store_is_migrated() {
    let mut connection = filled();
    let more =
        [MIGRATIONS, &["ALTER TABLE objects ADD COLUMN owner TEXT; CREATE TABLE more (key TEXT) STRICT"]];
    let more = more.concat();
    for found in [NEWEST, NEWEST + 1] {
        assert_eq!(version(&connection).unwrap(), found);
        migrate(&mut connection, found, &more).unwrap();
    }
    assert_eq!(objects(&connection), 1);
    connection.execute("INSERT INTO more VALUES ('x')", []).unwrap();
}

#[test]
fn a_migration_that_fails_leaves_the_store_as_it_was() {
    let mut connection = filled();
    let more =
        [MIGRATIONS, &["CREATE TABLE more (key TEXT) STRICT", "DELETE FROM objects; nonsense"]].concat();
    migrate(&mut connection, NEWEST, &more).unwrap_err();
    assert_eq!((version(&connection).unwrap(), objects(&connection)), (NEWEST, 1));
    migrate(&mut connection, NEWEST, MIGRATIONS).unwrap();
    connection.execute("INSERT INTO more VALUES ('x')", []).unwrap_err();
}
