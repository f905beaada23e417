//! Metrics of subscriptions: how many are open, and whether they may have notifications of patients with protected
//! identity, which wait for one that may.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The numbers of subscriptions. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct DispatchMetrics {
    open: Family<Labels, Gauge>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    sees_protected: &'static str,
}

/// An open subscription. Counted until it is dropped.
#[derive(Debug)]
pub struct OpenSubscription {
    metrics: DispatchMetrics,
    labels: Labels,
}

impl Default for DispatchMetrics {
    fn default() -> Self {
        let open: Family<Labels, Gauge> = Family::default();
        for sees_protected in ["true", "false"] {
            drop(open.get_or_create(&Labels { sees_protected }));
        }
        Self { open }
    }
}

impl DispatchMetrics {
    /// Counts a subscription that is opened.
    pub fn open(&self, hides_protected: bool) -> OpenSubscription {
        let sees_protected = if hides_protected { "false" } else { "true" };
        let labels = Labels { sees_protected };
        self.open.get_or_create(&labels).inc();
        OpenSubscription {
            metrics: self.clone(),
            labels,
        }
    }

    /// Registers the numbers under their names.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "care_invitation_due_streams",
            "Open streams of due notifications, by whether they get those of patients with protected identity",
            self.open.clone(),
        );
    }
}

impl Drop for OpenSubscription {
    fn drop(&mut self) {
        self.metrics.open.get_or_create(&self.labels).dec();
    }
}
