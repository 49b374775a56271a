//! Backups by data: whole ones, and every way in which one is not.

use std::{fs, os::unix::fs::PermissionsExt};

use protocol::documents::NamespacePattern;
use protocol::ids::Name;

use super::*;
use crate::{keys::Charter, serve, store::Write as StoreWrite};

/// A hub's folder, which never ran, and a backup of it.
struct Desk {
    folder: tempfile::TempDir,
    store: Store,
    file: PathBuf,
}

impl Desk {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hub = folder.path().join("hub");
        let authority = serve::certificate_authority(&hub, "north").unwrap();
        let now = UnixSeconds(1_800_000_000);
        let charter = Charter {
            fleet: FleetId::new("north").unwrap(),
            tenant: Name::new("radio").unwrap(),
            namespaces: vec!["radio".parse::<NamespacePattern>().unwrap()],
            ca_pins: vec![authority.pin()],
            issued: now,
            not_after: now.plus(1000),
        };
        let keys = keys::generate(&charter).unwrap();
        let store = Store::open(&hub.join(STORE_FILE)).unwrap();
        let code =
            StoreWrite::PutDocument { kind: "token", key: "0011223344556677".to_owned(), bytes: vec![1] };
        let token = StoreWrite::PutDocument { kind: "api-token", key: "ann".to_owned(), bytes: vec![1] };
        store.commit(vec![StoreWrite::ReserveVersions(5), code, token]).await.unwrap();
        let source = Source {
            directory: hub,
            fleet: charter.fleet,
            root: keys.envelope,
            director: Arc::new(keys.director),
            store: store.clone(),
        };
        let file = folder.path().join("hub.backup");
        source.prepare().await.unwrap().write(File::create_new(&file).unwrap()).unwrap();
        Self { folder, store, file }
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("restored")
    }

    /// Everything in the folder but what the desk put there: what a failure leaves behind.
    fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        names.filter(|name| !["hub", "hub.backup", "bad"].contains(&name.as_str())).collect()
    }
}

#[tokio::test]
async fn a_backup_becomes_a_hub_in_another_life() {
    let desk = Desk::new().await;
    let manifest = verify(&desk.file).unwrap();
    assert_eq!(manifest.files.iter().map(|file| &*file.name).collect::<Vec<_>>(), FILES);
    assert!(!desk.folder.path().join("hub").join(SNAPSHOT_FILE).exists());
    fs::create_dir(desk.target()).unwrap();
    let restored = restore(&desk.file, &desk.target()).await.unwrap();
    assert_eq!((restored.manifest, restored.clusters), (manifest, 0));
    assert_eq!(desk.leftovers(), ["restored"]);
    for name in FILES {
        let mode = fs::metadata(desk.target().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let store = Store::open(&desk.target().join(STORE_FILE)).unwrap();
    assert!(store.load().await.unwrap().reserved_version > 1 << 40);
    assert_eq!(store.documents("token").await.unwrap(), []);
    assert_eq!(store.documents("api-token").await.unwrap(), []);
    assert_eq!(store.documents("recovery").await.unwrap().len(), 1);
    assert_eq!(desk.store.load().await.unwrap().reserved_version, 5, "the source is as it was");
    let error = restore(&desk.file, &desk.target()).await.unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty(_)), "{error}");
}

/// Cut off anywhere, or altered anywhere, it is refused, and nothing of it is left.
#[tokio::test]
async fn a_backup_that_is_not_whole_is_refused() {
    let desk = Desk::new().await;
    let whole = fs::read(&desk.file).unwrap();
    let bad = desk.folder.path().join("bad");
    // Every place would take minutes: all of the first header and all of the end, and places all over the rest.
    let places = (0..520).chain((520..whole.len()).step_by(997)).chain(whole.len() - 520..whole.len());
    for place in places {
        let mut altered = whole.clone();
        altered[place] ^= 1;
        for content in [&whole[..place], &altered] {
            fs::write(&bad, content).unwrap();
            let error = verify(&bad).expect_err(&format!("at {place} of {}", whole.len()));
            assert!(matches!(error, BackupError::Damaged { .. } | BackupError::Format { .. }), "{error}");
        }
    }
    fs::write(&bad, [&whole[..], &[0]].concat()).unwrap();
    assert!(verify(&bad).unwrap_err().to_string().contains("does not end where it should"));
    fs::write(&bad, &whole[..whole.len() - 1]).unwrap();
    assert!(restore(&bad, &desk.target()).await.is_err());
    assert_eq!(desk.leftovers(), Vec::<String>::new());
}

/// What belongs to another fleet is found out, however well it is packed.
#[tokio::test]
async fn what_does_not_belong_together_is_refused() {
    let (desk, other) = (Desk::new().await, Desk::new().await);
    for (name, expected) in [
        (DIRECTOR_FILE, "director.key is not of this fleet"),
        (ROOT_FILE, "director.key is not of this fleet"),
        (STORE_FILE, "the backup's store cannot be used"),
    ] {
        let taken = desk.folder.path().join("bad");
        let mut archive = Archive::new(
            File::create(&taken).unwrap(),
            &FleetId::new("north").unwrap(),
            UnixSeconds(1_800_000_000),
        );
        for file in FILES {
            let from = if file == name { &other } else { &desk };
            let mut content = Vec::new();
            archive::read(&from.file, |found, input| {
                let mut sink = Vec::new();
                let (_, digest) = archive::copy(input, &mut sink)?;
                if found == file {
                    content = sink;
                }
                Ok(digest)
            })
            .unwrap();
            if file == name && file == STORE_FILE {
                content = vec![7; 4096];
            }
            archive.append(file, content.len() as u64, &mut content.as_slice()).unwrap();
        }
        archive.finish().unwrap();
        verify(&taken).unwrap();
        let error = restore(&taken, &desk.target()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
        assert_eq!(desk.leftovers(), Vec::<String>::new());
    }
}
