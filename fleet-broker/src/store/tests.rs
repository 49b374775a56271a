use std::fs;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::blob::BLOB_ROW_LEN;
use super::*;

fn path(folder: &TempDir) -> PathBuf {
    folder.path().join("hub.db")
}

/// Opens what another handle has just let go of: its thread may still be closing the file.
fn reopen(folder: &TempDir) -> Store {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        match Store::open(&path(folder)) {
            Ok(store) => return store,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
    }
}

/// A store on a disk on which 40 pages of 4 KiB are free.
pub(crate) fn with_little_room(path: &Path) -> Store {
    let connection = open(path).unwrap();
    connection.pragma_update(None, "max_page_count", 40).unwrap();
    Store::on(connection)
}

fn object(name: &str, version: u64) -> Write {
    let json = json!({"metadata": {"name": name}}).to_string();
    Write::PutObject { kind: "Cluster", namespace: String::new(), name: name.to_owned(), version, json }
}

fn document(key: &str, bytes: &[u8]) -> Write {
    Write::PutDocument { kind: "head", key: key.to_owned(), bytes: bytes.to_vec() }
}

/// A copy of the files as a power cut would leave them: the database is open and has never been closed.
fn cut_power(folder: &TempDir) -> TempDir {
    let copy = TempDir::new().unwrap();
    for file in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

#[tokio::test]
async fn what_was_committed_survives_a_power_cut() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(&path(&folder)).unwrap();
    store
        .commit(vec![
            Write::ReserveVersions(50),
            object("a", 1),
            object("b", 2),
            document("x", b"1"),
            document("y", b"2"),
        ])
        .await
        .unwrap();
    let deleted = Write::DeleteObject { kind: "Cluster", namespace: String::new(), name: "b".to_owned() };
    let forgotten = Write::DeleteDocument { kind: "head", key: "x".to_owned() };
    store.commit(vec![object("a", 3), deleted, forgotten, document("z", b"")]).await.unwrap();

    let copy = cut_power(&folder);
    let store = reopen(&copy);
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded.reserved_version, 50);
    let objects: Vec<_> =
        loaded.objects.iter().map(|object| (object.name.as_str(), object.version)).collect();
    assert_eq!(objects, [("a", 3)]);
    assert_eq!(loaded.objects[0].text.get(), json!({"metadata": {"name": "a"}}).to_string());
    let documents = store.documents("head").await.unwrap();
    assert_eq!(documents, [("y".to_owned(), b"2".to_vec()), ("z".to_owned(), Vec::new())]);
    assert_eq!(store.documents("report").await.unwrap(), []);
}

#[tokio::test]
async fn many_commits_at_once_all_happen() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(&path(&folder)).unwrap();
    let commits = (0..600).map(|number| {
        let store = store.clone();
        async move { store.commit(vec![document(&format!("{number:03}"), b"x")]).await }
    });
    futures::future::try_join_all(commits).await.unwrap();
    assert_eq!(store.documents("head").await.unwrap().len(), 600);
}

#[tokio::test]
async fn blobs_are_what_they_are_called() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(&path(&folder)).unwrap();
    // Noise from a fixed seed, so that the frame has several rows.
    let mut state = 1_u32;
    let noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    let content: Vec<u8> = std::iter::repeat_with(noise).take(3 * BLOB_ROW_LEN + 17).collect();
    let digest: [u8; 32] = ring::digest::digest(&SHA256, &content).as_ref().try_into().unwrap();
    let written = |claimed| {
        let mut writer = BlobWriter::new().unwrap();
        content.chunks(1000).for_each(|piece| writer.write(piece).unwrap());
        writer.finish(claimed)
    };
    assert!(matches!(written([0; 32]), Err(BlobError::Digest { actual }) if actual == digest));
    assert_eq!(store.blob(digest).await.unwrap(), None);
    for _ in 0..2 {
        store.commit(vec![Write::PutBlob(written(digest).unwrap())]).await.unwrap();
    }

    let copy = cut_power(&folder);
    let store = reopen(&copy);
    let info = store.blob(digest).await.unwrap().unwrap();
    assert_eq!(info.len, content.len() as u64);
    let frame = store.read_blob(digest, 0, usize::MAX >> 1).await.unwrap();
    assert_eq!(frame.len() as u64, info.zstd_len);
    assert_eq!(zstd::decode_all(frame.as_slice()).unwrap(), content);
    for (offset, len) in
        [(0, 1), (1, BLOB_ROW_LEN), (BLOB_ROW_LEN - 1, 2), (BLOB_ROW_LEN, 1), (frame.len() - 1, 5)]
    {
        let expected = &frame[offset..frame.len().min(offset + len)];
        assert_eq!(store.read_blob(digest, offset as u64, len).await.unwrap(), expected, "{offset} {len}");
    }
    assert!(store.read_blob(digest, info.zstd_len, 1).await.unwrap().is_empty());
}

#[test]
fn content_without_end_is_refused() {
    let mut writer = BlobWriter::new().unwrap();
    let piece = vec![0; 1 << 20];
    for _ in 0..BLOB_MAX_LEN >> 20 {
        writer.write(&piece).unwrap();
    }
    assert!(matches!(writer.write(&[0]), Err(BlobError::TooLong)));
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let folder = TempDir::new().unwrap();
    let store = with_little_room(&path(&folder));
    store.commit(vec![document("small", b"1")]).await.unwrap();
    let large = vec![document("first", b"1"), document("large", &[0; 1 << 20])];
    assert!(matches!(store.commit(large).await, Err(StoreError::Full)));
    store.commit(vec![document("small", b"2")]).await.unwrap();
    let documents = store.documents("head").await.unwrap();
    assert_eq!(documents, [("small".to_owned(), b"2".to_vec())], "all or nothing");
}

#[tokio::test]
async fn opening_says_what_is_wrong() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(&path(&folder)).unwrap();
    store.commit(vec![document("x", b"1")]).await.unwrap();
    assert!(matches!(Store::open(&path(&folder)), Err(StoreError::Locked { .. })));

    let garbage = folder.path().join("garbage.db");
    fs::write(&garbage, "this is no database, and long enough to be sure of it".repeat(100)).unwrap();
    assert!(matches!(Store::open(&garbage), Err(StoreError::Corrupt { .. })));

    let newer = folder.path().join("newer.db");
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Store::open(&newer), Err(StoreError::Newer { found: 99, .. })));

    let nowhere = folder.path().join("none/hub.db");
    let error = Store::open(&nowhere).unwrap_err();
    assert!(
        matches!(&error, StoreError::Open { .. }) && error.to_string().contains("none/hub.db"),
        "{error}"
    );
}

#[tokio::test]
async fn a_damaged_blob_is_mended_when_it_is_written_again() {
    let folder = TempDir::new().unwrap();
    let content = vec![7; 300];
    let digest = *protocol::ids::Digest::of(&content).as_bytes();
    let blob = || {
        let mut writer = BlobWriter::new().unwrap();
        writer.write(&content).unwrap();
        Write::PutBlob(writer.finish(digest).unwrap())
    };
    let damages = [
        "UPDATE blob_rows SET bytes = substr(bytes, 1, 5)",
        "DELETE FROM blob_rows",
        "UPDATE blobs SET zstd_len = 5",
        "INSERT INTO blob_rows SELECT digest, 1, bytes FROM blob_rows",
    ];
    for damage in damages {
        let store = reopen(&folder);
        store.commit(vec![blob()]).await.unwrap();
        drop(store);
        // Alone, once the thread of the handle before has closed the file.
        let connection = loop {
            if let Ok(connection) = open(&path(&folder)) {
                break connection;
            }
        };
        assert_eq!(connection.execute(damage, []).unwrap(), 1, "{damage}");
        drop(connection);
        let store = reopen(&folder);
        store.commit(vec![blob()]).await.unwrap();
        let info = store.blob(digest).await.unwrap().unwrap();
        let frame = store.read_blob(digest, 0, BLOB_ROW_LEN).await.unwrap();
        assert_eq!((frame.len() as u64, info.len), (info.zstd_len, 300), "{damage}");
        assert_eq!(zstd::decode_all(frame.as_slice()).unwrap(), content, "{damage}");
    }
}

/// A copy is the state at one moment, although much is written while it is made.
#[tokio::test]
async fn a_snapshot_is_one_state_and_stops_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("hub.sqlite")).unwrap();
    let write = |key: &str, number: u64| Write::PutDocument {
        kind: "test",
        key: key.to_owned(),
        // Large enough that the copy takes many steps.
        bytes: [&number.to_be_bytes()[..], &vec![0; 100_000]].concat(),
    };
    for number in 0..100 {
        store.commit(vec![write(&format!("filler-{number}"), number)]).await.unwrap();
    }
    let copy = folder.path().join("copy.sqlite");
    let snapshot = store.snapshot(&copy);
    // Both rows always change together, and both are at the ends of the file.
    let writing = async {
        for number in 0..50 {
            store.commit(vec![write("filler-0", number), write("filler-99", number)]).await.unwrap();
        }
    };
    let (copied, ()) = tokio::join!(snapshot, writing);
    copied.unwrap();
    let copy = Store::open(&copy).unwrap();
    let documents = copy.documents("test").await.unwrap();
    let number = |key: &str| documents.iter().find(|(found, _)| found == key).unwrap().1[..8].to_vec();
    assert_eq!((documents.len(), number("filler-0")), (100, number("filler-99")));
    copy.close().await.unwrap();
    store.clone().close().await.unwrap();
    assert!(matches!(store.load().await, Err(StoreError::Closed)));
}
