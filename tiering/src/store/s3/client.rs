//! The client of AWS's SDK, set up: where the service is, who we are, how long and how often.
//!
//! Invariants:
//! - What a URL says goes before the environment (`AWS_ENDPOINT_URL`, `AWS_REGION`, profiles), and
//!   credentials come by the SDK's own chain, which renews them.
//! - Every wait has an end. A call is tried again by the SDK alone, with jitter and under its token
//!   bucket: there is no second loop around it here.
//! - TLS is rustls, with the system's roots or those of `AWS_CA_BUNDLE`.
//!
//! Not here: what is called (`mod`), what a failure means (`told`).

use std::time::Duration;

use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::InterceptorContext;
use aws_sdk_s3::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_s3::config::{
    Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};

use super::url::Style;
use super::{Keys, S3Settings, S3Url};
use crate::store::{Result, StoreError};

/// Until a connection stands.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// The first wait before a call is made again, and the longest: jittered, doubled.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The region of who names none: servers that are not AWS take any.
const REGION: &str = "us-east-1";

/// "Another conditional put is under way": the documented answer is to make the call again.
#[derive(Debug)]
struct ConflictPasses;

impl ClassifyRetry for ConflictPasses {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let conflict = context.response().is_some_and(|reply| reply.status().as_u16() == 409);
        if conflict { RetryAction::server_error() } else { RetryAction::NoActionIndicated }
    }

    fn name(&self) -> &'static str {
        "a conflict passes"
    }
}

/// Makes a client. Reads the environment and profiles.
pub(super) async fn connect(url: &S3Url, settings: &S3Settings) -> Result<Client> {
    let mut loader = loader(url, settings)?;
    if let Some(Keys { id, secret, session }) = settings.keys.clone() {
        let given = Credentials::new(id, secret, session, None, "given");
        loader = loader.credentials_provider(given);
    }
    let shared = loader.load().await;
    let named = url.endpoint.is_some() || endpoint_in(&shared);
    let path = url.style.map_or(named, |style| style == Style::Path);
    let own = aws_sdk_s3::config::Builder::from(&shared)
        .force_path_style(path)
        // Sums are ours, made where the bytes were made: the SDK adds none of its own.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_classifier(ConflictPasses)
        .build();
    Ok(Client::from_conf(own))
}

/// Whether the environment or a profile names an endpoint.
fn endpoint_in(shared: &SdkConfig) -> bool {
    shared.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some()
}

fn loader(url: &S3Url, settings: &S3Settings) -> Result<ConfigLoader> {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_MAX)
        .operation_attempt_timeout(settings.attempt_max)
        .operation_timeout(settings.attempt_max * settings.attempts)
        .build();
    let retries = RetryConfig::standard()
        .with_max_attempts(settings.attempts)
        .with_initial_backoff(BACKOFF.0)
        .with_max_backoff(BACKOFF.1);
    // The default chain would ask the cloud's own service for a region: elsewhere that takes
    // seconds to fail.
    let given = RegionProviderChain::first_try(url.region.clone().map(Region::new));
    let region = given
        .or_else(aws_config::environment::region::EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .or_else(Region::new(REGION));
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http_client()?)
        .timeout_config(timeouts)
        .retry_config(retries)
        .region(region);
    if let Some(endpoint) = &url.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    Ok(loader)
}

fn http_client() -> Result<SharedHttpClient> {
    let refused = |what: String| StoreError::Invalid(format!("AWS_CA_BUNDLE: {what}"));
    let builder = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
    let Some(path) = std::env::var_os("AWS_CA_BUNDLE") else { return Ok(builder.build_https()) };
    let roots = std::fs::read(&path).map_err(|e| refused(e.to_string()))?;
    let trust = TrustStore::empty().with_pem_certificate(roots);
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context = context.map_err(|e| refused(e.to_string()))?;
    Ok(builder.tls_context(context).build_https())
}
