//! Freezes: while one stands, nothing starts in its scope. What runs goes on, and is healed.

use apimachinery::selector::Selector;
use protocol::{
    ids::{AppId, ClusterId, Name},
    time::Now,
};

use super::{Effect, Fleet, Labels};

/// Where nothing starts, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreezeRecord {
    /// Why.
    pub reason: String,
    /// Only applications of this tenant; none for those of all.
    pub tenant: Option<Name>,
    /// Only clusters with such labels.
    pub selector: Selector,
}

impl FreezeRecord {
    fn covers(&self, app: &AppId, labels: &Labels) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| tenant == &app.tenant)
            && labels.are_selected_by(&self.selector)
    }
}

impl Fleet {
    /// Clusters learn of it at once: their heads lose permits, or have them again.
    pub(super) fn freeze_changed(
        &mut self,
        now: Now,
        name: String,
        record: Option<FreezeRecord>,
        effects: &mut Vec<Effect>,
    ) {
        let before = match &record {
            Some(record) => self.freezes.insert(name, record.clone()),
            None => self.freezes.remove(&name),
        };
        if before == record {
            return;
        }
        let scopes: Vec<FreezeRecord> = before.into_iter().chain(record).collect();
        let touched = self
            .clusters
            .iter()
            .filter(|(_, cluster)| scopes.iter().any(|s| cluster.labels.are_selected_by(&s.selector)));
        let touched: Vec<ClusterId> = touched.map(|(id, _)| id.clone()).collect();
        for id in touched {
            self.send_news(now, &id, None, false, effects);
        }
        self.tallies.clear();
        self.changed.later.extend(self.applications.keys().cloned());
    }

    /// The freeze that keeps an application from starting on a cluster with these labels, and its name.
    pub(super) fn frozen(&self, app: &AppId, labels: &Labels) -> Option<(&String, &FreezeRecord)> {
        self.freezes.iter().find(|(_, freeze)| freeze.covers(app, labels))
    }
}
