//! The settings of traces: the collector that spans go to, and how many traces are sampled.

use clap::Args;
use http::Uri;
use http::uri::Scheme;

use super::{BadSetting, take};

/// Parts of a ratio: a trace in a million is the least that can be sampled.
const PARTS: f64 = 1_000_000.0;

/// Export of traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// Collector, by OTLP over gRPC.
    pub endpoint: Uri,
    /// Traces that are sampled of a million that begin here.
    pub sampled_per_million: u32,
}

/// Flags of traces.
#[derive(Debug, Args)]
pub struct TracesArgs {
    /// Collector of OpenTelemetry to which spans of calls are exported, by OTLP over gRPC,
    /// as in http://127.0.0.1:4317. Nothing of patients or callers is in them. Without it
    /// there are none.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        verbatim_doc_comment,
        value_name = "URL",
        env = "CARE_INVITATION_OTLP_ENDPOINT"
    )]
    otlp_endpoint: Option<String>,
    /// Ratio of the traces that begin here which is sampled, from 0 to 1. A caller that has
    /// begun one decides itself.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        verbatim_doc_comment,
        value_name = "RATIO",
        env = "CARE_INVITATION_TRACE_RATIO",
        default_value = "1"
    )]
    trace_ratio: String,
}

impl TracesArgs {
    /// Returns the export of traces, if there is an endpoint.
    pub fn validate(&self, bad: &mut Vec<BadSetting>) -> Option<Option<Traces>> {
        let endpoint = self.otlp_endpoint.as_deref().map(endpoint).transpose();
        let endpoint = take(bad, "otlp-endpoint", endpoint);
        let sampled_per_million = take(bad, "trace-ratio", ratio(&self.trace_ratio))?;
        Some(endpoint?.map(|endpoint| Traces {
            endpoint,
            sampled_per_million,
        }))
    }
}

/// Parses the address of a collector, which has no path: that is the method's.
fn endpoint(text: &str) -> Result<Uri, String> {
    let uri: Option<Uri> = text.parse().ok();
    let is_endpoint = |uri: &Uri| {
        let known = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)];
        let is_bare = uri.path() == "/" && uri.query().is_none();
        known.contains(&uri.scheme()) && is_bare
    };
    uri.filter(is_endpoint).ok_or_else(|| {
        format!("must be an address without a path, such as http://127.0.0.1:4317; it is {text:?}")
    })
}

/// Parses a ratio, in millionths.
fn ratio(text: &str) -> Result<u32, String> {
    let ratio: Option<f64> = text.parse().ok();
    ratio
        .filter(|it| (0.0..=1.0).contains(it))
        .map(|it| (it * PARTS).round() as u32)
        .ok_or_else(|| format!("must be a number from 0 to 1; it is {text:?}"))
}
