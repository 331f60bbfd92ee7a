//! What operators change: partitions, settings and the end of topics.

use rama::Service as _;
use tansu_sans_io::{
    AlterConfigsRequest, AlterConfigsResponse, Body, ConfigResource, CreatePartitionsRequest, CreatePartitionsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest, ErrorCode, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, alter_configs_response,
    create_partitions_response::CreatePartitionsTopicResult,
    delete_topics_response::DeletableTopicResult,
    describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult},
    incremental_alter_configs_response,
};
use tansu_storage::DescribeConfigsService;

use super::{Error, Requests, code};
use crate::broker::topics::{DEFAULTS, Mode};

/// The broker's own settings a client may ask for. Transactions block nobody here, but a client that checks that they
/// end in time shall find the answer of a well set broker.
const BROKER_SETTINGS: [(&str, &str); 4] = [
    ("auto.create.topics.enable", "false"),
    ("message.max.bytes", "1048588"),
    ("transaction.max.timeout.ms", "60000"),
    ("transaction.state.log.min.isr", "1"),
];

impl Requests {
    pub(super) async fn create_partitions(&self, request: CreatePartitionsRequest) -> Body {
        let mut results = Vec::new();
        for topic in request.topics.unwrap_or_default() {
            let mode = Mode::of(request.validate_only);
            let grown = self.topics.grow(&topic, mode).await;
            results.push(
                CreatePartitionsTopicResult::default()
                    .name(topic.name)
                    .error_code(code(grown))
                    .error_message(grown.err().map(|error| error.to_string())),
            );
        }
        CreatePartitionsResponse::default().throttle_time_ms(0).results(Some(results)).into()
    }

    pub(super) async fn delete_topics(&self, request: DeleteTopicsRequest) -> Body {
        let mut responses = Vec::new();
        for name in request.topic_names.unwrap_or_default() {
            let deleted = self.topics.delete(&name).await;
            responses.push(
                DeletableTopicResult::default()
                    .name(Some(name))
                    .error_code(code(deleted.map(|_| ())))
                    .error_message(deleted.err().map(|error| error.to_string())),
            );
        }
        DeleteTopicsResponse::default().throttle_time_ms(Some(0)).responses(Some(responses)).into()
    }

    /// Sets what is named and leaves the rest. Kafka would reset the rest, which is what made it invent the other one.
    pub(super) async fn alter_configs(&self, request: AlterConfigsRequest) -> Body {
        let mode = Mode::of(request.validate_only);
        let mut responses = Vec::new();
        for resource in request.resources.unwrap_or_default() {
            let settings: Vec<_> =
                resource.configs.unwrap_or_default().into_iter().map(|config| (config.name, config.value)).collect();
            let altered = self.alter(resource.resource_type, &resource.resource_name, &settings, mode).await;
            responses.push(
                alter_configs_response::AlterConfigsResourceResponse::default()
                    .error_code(code(altered))
                    .error_message(altered.err().map(|error| error.to_string()))
                    .resource_type(resource.resource_type)
                    .resource_name(resource.resource_name),
            );
        }
        AlterConfigsResponse::default().throttle_time_ms(0).responses(Some(responses)).into()
    }

    pub(super) async fn alter_configs_by_step(&self, request: IncrementalAlterConfigsRequest) -> Body {
        let mode = Mode::of(request.validate_only);
        let mut responses = Vec::new();
        for resource in request.resources.unwrap_or_default() {
            let mut settings = Vec::new();
            let mut refused = None;
            for config in resource.configs.unwrap_or_default() {
                match config.config_operation {
                    0 => settings.push((config.name, config.value)),
                    1 => settings.push((config.name, None)),
                    _ => refused = Some(ErrorCode::InvalidConfig),
                }
            }
            let altered = match refused {
                Some(error) => Err(error),
                None => {
                    let name = &resource.resource_name;
                    self.alter(resource.resource_type, name, &settings, mode).await
                }
            };
            responses.push(
                incremental_alter_configs_response::AlterConfigsResourceResponse::default()
                    .error_code(code(altered))
                    .error_message(altered.err().map(|error| error.to_string()))
                    .resource_type(resource.resource_type)
                    .resource_name(resource.resource_name),
            );
        }
        IncrementalAlterConfigsResponse::default().throttle_time_ms(0).responses(Some(responses)).into()
    }

    async fn alter(
        &self,
        resource_type: i8,
        name: &str,
        settings: &[(String, Option<String>)],
        mode: Mode,
    ) -> Result<(), ErrorCode> {
        match ConfigResource::from(resource_type) {
            ConfigResource::Topic => self.topics.configure(name, settings, mode).await,
            _ => Err(ErrorCode::InvalidConfig),
        }
    }

    /// Tansu knows only the settings a topic was made with, and none of the broker's.
    pub(super) async fn describe_configs(&self, request: DescribeConfigsRequest) -> Result<Body, Error> {
        let wanted = request.resources.clone().unwrap_or_default();
        let mut answer = DescribeConfigsService.serve(self.tansu(), request).await?;
        for result in answer.results.iter_mut().flatten() {
            let defaults = match ConfigResource::from(result.resource_type) {
                ConfigResource::Topic if result.error_code == i16::from(ErrorCode::None) => DEFAULTS.as_slice(),
                ConfigResource::Broker => {
                    result.error_code = ErrorCode::None.into();
                    BROKER_SETTINGS.as_slice()
                }
                _ => continue,
            };
            result.error_message = None;
            let keys = wanted
                .iter()
                .find(|resource| resource.resource_name == result.resource_name)
                .and_then(|resource| resource.configuration_keys.as_deref());
            complete(result, defaults, keys);
        }
        Ok(answer.into())
    }
}

/// Adds the settings not given, and leaves out those not asked for.
fn complete(result: &mut DescribeConfigsResult, defaults: &[(&str, &str)], keys: Option<&[String]>) {
    let mut configs = result.configs.take().unwrap_or_default();
    for (name, value) in defaults {
        if configs.iter().any(|config| config.name == *name) {
            continue;
        }
        configs.push(
            DescribeConfigsResourceResult::default()
                .name((*name).to_owned())
                .value(Some((*value).to_owned()))
                .is_default(Some(true))
                // "default config", as Kafka numbers its sources
                .config_source(Some(5))
                .synonyms(Some(Vec::new()))
                // "string"
                .config_type(Some(2))
                .documentation(None),
        );
    }
    if let Some(keys) = keys {
        configs.retain(|config| keys.contains(&config.name));
    }
    result.configs = Some(configs);
}
