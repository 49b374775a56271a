//! Documents that are kept for long: sent again as they were signed, or looked at again as they were said.

use std::ops::Deref;

use crate::{
    codec,
    cose::{self, Envelope},
    documents::{Document, Report},
    keys::SIGNATURE_BYTES,
    verify::Verified,
};

/// A document that one key signed, and its envelope. What was signed has one encoding, so of the envelope only the
/// signature is kept: thousands of documents take half the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept<T> {
    document: Verified<T>,
    signature: [u8; SIGNATURE_BYTES],
}

impl<T: Document> Kept<T> {
    /// Keeps a document that was verified in this envelope; none if the envelope is not one of a single signature.
    pub fn new(document: Verified<T>, envelope: &[u8]) -> Option<Self> {
        let parsed = Envelope::parse_one(T::TYPE, envelope).ok()?;
        let kept = Self { document, signature: parsed.first_signature().try_into().ok()? };
        debug_assert_eq!(kept.envelope(), envelope, "a document was kept with another one's envelope");
        Some(kept)
    }

    /// The envelope, to the byte.
    pub fn envelope(&self) -> Vec<u8> {
        let signer = self.document.signers().first().expect("what is verified was signed");
        cose::reassemble_one(T::TYPE, &codec::encode(&*self.document), signer, &self.signature)
    }
}

impl<T> Deref for Kept<T> {
    type Target = Verified<T>;
    fn deref(&self) -> &Verified<T> {
        &self.document
    }
}

/// A report as its cluster encoded it, in the parts that a hub keeps: to encode them again would take as long as all else
/// that it does with them.
#[derive(Debug)]
pub struct ReportParts<'a> {
    /// Of each application, in the order of [`Report::apps`].
    pub apps: Vec<&'a [u8]>,
    /// All of [`Report::conditions`].
    pub conditions: &'a [u8],
}

impl<'a> ReportParts<'a> {
    /// The parts of a report that was verified in this envelope; none if it is another's.
    pub fn of(report: &Verified<Report>, envelope: &'a [u8]) -> Option<Self> {
        let payload = cose::payload_of_one(envelope)?;
        debug_assert_eq!(codec::encode(&**report), payload, "the envelope is another report's");
        let (mut apps, mut conditions) = (None, None);
        let mut walk = codec::Walk::new(payload);
        for _ in 0..walk.map()? {
            match walk.number()? {
                Report::APPS_FIELD => apps = Some(items(&mut walk)?),
                Report::CONDITIONS_FIELD => conditions = Some(walk.item()?),
                _ => drop(walk.item()?),
            }
        }
        let parts = Self { apps: apps?, conditions: conditions? };
        (parts.apps.len() == report.apps.len()).then_some(parts)
    }
}

fn items<'a>(walk: &mut codec::Walk<'a>) -> Option<Vec<&'a [u8]>> {
    (0..walk.array()?).map(|_| walk.item()).collect()
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::{
        cose::Binding,
        documents::{AppReport, AppState, Condition, ConditionStatus, Counts, DocumentType, Encoding, Want},
        ids::{AppId, ClusterId, Digest, FleetId, JournalId},
        keys::SigningKey,
        order::Order,
        time::UnixSeconds,
        verify,
    };

    #[test]
    fn an_envelope_comes_back_to_the_byte() {
        let (fleet, cluster) = (FleetId::new("north").unwrap(), ClusterId::new("tower-1").unwrap());
        let key = SigningKey::from_seed(Zeroizing::new([7; 32]));
        let binding = Binding { kind: DocumentType::Want, fleet: &fleet, cluster: Some(&cluster) };
        for offset in [0, 23, 24, u64::MAX] {
            let want = Want {
                cluster: cluster.clone(),
                target: Digest::of(b"content"),
                encoding: Encoding::Plain,
                base: None,
                offset,
            };
            let envelope = cose::sign_one(binding, &codec::encode(&want), &key);
            let verified = verify::by_cluster(&fleet, &cluster, &key.public(), &envelope).unwrap();
            let kept: Kept<Want> = Kept::new(verified, &envelope).unwrap();
            assert_eq!((kept.envelope(), kept.offset), (envelope, offset));
        }
    }

    fn app(name: &str) -> AppReport {
        AppReport {
            app: AppId::new("radio", name).unwrap(),
            state: AppState::Available,
            accepted: None,
            applied: None,
            reverted: None,
            rejected: None,
            conditions: Vec::new(),
            worst: None,
            counts: Counts::default(),
            drift: Vec::new(),
            preview: None,
        }
    }

    #[test]
    fn parts_of_a_report_are_as_it_has_them() {
        let (fleet, cluster) = (FleetId::new("north").unwrap(), ClusterId::new("tower-1").unwrap());
        let key = SigningKey::from_seed(Zeroizing::new([7; 32]));
        let binding = Binding { kind: DocumentType::Report, fleet: &fleet, cluster: Some(&cluster) };
        let condition = Condition {
            kind: "KubernetesReady".into(),
            status: ConditionStatus::True,
            reason: "Answering".into(),
            message: String::new(),
        };
        for (apps, conditions) in
            [(Vec::new(), Vec::new()), (vec![app("gateway"), app("antenna")], vec![condition])]
        {
            let report = Report {
                cluster: cluster.clone(),
                journal: JournalId::new([1; 16]),
                report_seq: u64::MAX,
                order: Order::default(),
                digest: Report::digest_of(&apps),
                apps,
                conditions,
                clock: UnixSeconds(1),
                kubernetes: "".into(),
                agent: "0.2.0".into(),
            };
            let envelope = cose::sign_one(binding, &codec::encode(&report), &key);
            let verified = verify::by_cluster(&fleet, &cluster, &key.public(), &envelope).unwrap();
            let parts = ReportParts::of(&verified, &envelope).unwrap();
            assert_eq!(parts.apps, report.apps.iter().map(codec::encode).collect::<Vec<_>>());
            assert_eq!(parts.conditions, codec::encode(&report.conditions));
            assert_eq!(Report::digest_of_encoded(parts.apps), report.digest);
        }
    }
}
