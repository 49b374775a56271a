use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CustomExtension, PKCS_ED25519};
use rustls_pki_types::UnixTime;
use tempfile::TempDir;

use super::*;

fn now() -> Timestamp {
    "2026-11-21T00:00:00Z".parse().unwrap()
}

fn open(directory: &TempDir) -> Result<CertificateAuthority, PkiError> {
    CertificateAuthority::load_or_create(directory.path(), "fleet-1", now())
}

fn identity() -> KeyId {
    KeyId::new([0xab; 32])
}

fn tower() -> ClusterId {
    "tower-1".parse().unwrap()
}

/// A request as an honest agent makes it, changed as a test likes.
fn request(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = named("tower-1");
    change(&mut parameters);
    parameters.serialize_request(key).unwrap().der().to_vec()
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

#[test]
fn a_ca_is_made_once_and_kept() {
    let directory = TempDir::new().unwrap();
    let made = open(&directory).unwrap();
    let kept = open(&directory).unwrap();
    assert_eq!((made.certificate_pem(), made.pin()), (kept.certificate_pem(), kept.pin()));
    let mode = fs::metadata(directory.path().join(KEY_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the key is for this user alone");
    let other = open(&TempDir::new().unwrap()).unwrap();
    assert_ne!(made.pin(), other.pin());
}

#[test]
fn a_damaged_ca_is_refused_and_never_replaced() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 4] = [
        ("ca.key does not", |directory| fs::remove_file(directory.join(KEY_FILE)).unwrap()),
        ("cannot be used: ca.key", |directory| fs::write(directory.join(KEY_FILE), "no key").unwrap()),
        ("cannot be used: ca.pem", |directory| fs::write(directory.join(CERTIFICATE_FILE), "").unwrap()),
        ("does not belong", |directory| {
            fs::write(directory.join(KEY_FILE), key().serialize_pem()).unwrap();
        }),
    ];
    for (message, damage) in cases {
        let directory = TempDir::new().unwrap();
        open(&directory).unwrap();
        damage(directory.path());
        let error = open(&directory).err().expect(message).to_string();
        assert!(error.contains(message), "{error}");
    }
}

/// A first start may be cut off between the two files.
#[test]
fn a_key_without_its_certificate_gets_one() {
    let directory = TempDir::new().unwrap();
    let pin = open(&directory).unwrap().pin();
    fs::remove_file(directory.path().join(CERTIFICATE_FILE)).unwrap();
    assert_eq!(open(&directory).unwrap().pin(), pin);
    assert_eq!(open(&directory).unwrap().pin(), pin);
}

#[test]
fn a_cluster_gets_what_is_due_to_it_and_no_more() {
    let ca = open(&TempDir::new().unwrap()).unwrap();
    let greedy = request(&key(), |parameters| {
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.subject_alt_names = vec![rcgen::SanType::DnsName("hub".try_into().unwrap())];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let signed = ca.sign_cluster(&greedy, &tower(), &identity(), now()).unwrap();
    let der = CertificateDer::from_pem_slice(signed.pem.as_bytes()).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();

    assert_eq!(certificate.subject().to_string(), format!("CN=tower-1, OU={}", identity()));
    assert!(!certificate.is_ca());
    assert!(certificate.subject_alternative_name().unwrap().is_none());
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
    let validity = certificate.validity();
    assert_eq!(validity.not_before.timestamp(), now().as_second() - 300);
    assert_eq!(validity.not_after.timestamp(), now().as_second() + 180 * 86_400);
    assert_eq!(validity.not_after.timestamp(), signed.not_after.as_second());
    assert_eq!(certificate.raw_serial(), signed.serial);
    let again = ca.sign_cluster(&greedy, &tower(), &identity(), now()).unwrap();
    assert_ne!(again.serial, signed.serial, "each certificate can be revoked alone");
}

#[test]
fn a_bad_request_is_refused() {
    let ca = open(&TempDir::new().unwrap()).unwrap();
    let good = request(&key(), |_| ());
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let renamed = request(&key(), |parameters| parameters.distinguished_name = named("tower-2"));
    let titled = request(&key(), |parameters| {
        parameters.distinguished_name.push(DnType::OrganizationName, "hub");
    });
    let foreign = request(&KeyPair::generate_for(&PKCS_ED25519).unwrap(), |_| ());
    let odd = request(&key(), |parameters| {
        let extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        parameters.custom_extensions = vec![extension];
    });
    let cases: [(&str, Vec<u8>); 7] = [
        ("signature", forged),
        ("subject", renamed),
        ("subject", titled),
        ("P-256", foreign),
        ("extension", odd),
        ("parse", good[..good.len() / 2].to_vec()),
        ("at most", vec![0; REQUEST_BYTES + 1]),
    ];
    assert!(ca.sign_cluster(&good, &tower(), &identity(), now()).is_ok());
    for (reason, bad) in cases {
        let error = ca.sign_cluster(&bad, &tower(), &identity(), now()).unwrap_err().to_string();
        assert!(
            error.contains("tower-1") && error.to_lowercase().contains(&reason.to_lowercase()),
            "{reason}: {error}"
        );
    }
}

#[test]
fn the_hubs_certificate_is_good_for_its_names_and_shows_its_ca() {
    let ca = open(&TempDir::new().unwrap()).unwrap();
    let names = ["hub.example".to_owned(), "10.0.0.1".to_owned()];
    let identity = ca.server_identity(&names, now()).unwrap();
    assert_eq!(identity.chain[1], *ca.certificate());

    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.certificate().clone()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        rustls::client::WebPkiServerVerifier::builder_with_provider(std::sync::Arc::new(roots), provider)
            .build()
            .unwrap();
    let day = 86_400;
    let cases = [
        // name, days from now, good
        ("hub.example", 0, true),
        ("10.0.0.1", 0, true),
        ("other.example", 0, false),
        ("10.0.0.2", 0, false),
        ("hub.example", 179, true),
        ("hub.example", 181, false),
        ("hub.example", -1, false),
    ];
    for (name, days, good) in cases {
        use rustls::client::danger::ServerCertVerifier as _;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(
            u64::try_from(now().as_second() + days * day).unwrap(),
        ));
        let name = rustls_pki_types::ServerName::try_from(name).unwrap();
        let verdict = verifier.verify_server_cert(&identity.chain[0], &identity.chain[1..], &name, &[], at);
        assert_eq!(verdict.is_ok(), good, "{name:?} in {days} days: {verdict:?}");
    }
}

#[test]
fn the_pin_is_that_of_openssl() {
    // openssl x509 -pubkey -noout -in ca.pem | openssl pkey -pubin -outform der | sha256sum
    let certificate = CertificateDer::from_pem_slice(include_bytes!("testdata/ca.pem")).unwrap();
    let pin = Digest::of(&public_key_of(&certificate).unwrap());
    assert_eq!(pin.to_string(), include_str!("testdata/ca.pin").trim());
}
