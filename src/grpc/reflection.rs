//! The reflection service: what is served describes itself, in v1 and in v1alpha, which are the same on the wire.
//!
//! tonic-reflection's own answers with one file without those that it imports, ends the stream at a question that it has no
//! answer to, and knows no extensions; tools such as evans need all of that. Its messages are used here.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;

use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::server_reflection_server::ServerReflection;
use tonic_reflection::pb::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};
use tonic_reflection::pb::v1alpha;
use tonic_reflection::pb::v1alpha::server_reflection_server::ServerReflection as ServerReflectionAlpha;

use super::status;

/// Beginning of the names of our services.
const OURS: &str = "careinvitation.";
/// A message of error details.
const DETAILS: &str = "google.rpc.ErrorInfo";

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Encoded files, as `FileDescriptorSet` has them: options and comments as they were written.
#[derive(prost::Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

/// A file that is served.
#[derive(Debug)]
struct File {
    encoded: Vec<u8>,
    imports: Vec<String>,
}

impl File {
    /// Adds an import: an encoded message that follows another is merged into it.
    fn import(&mut self, name: String) {
        if !self.imports.contains(&name) {
            let import = FileDescriptorProto {
                dependency: vec![name.clone()],
                ..Default::default()
            };
            self.encoded.extend(import.encode_to_vec());
            self.imports.push(name);
        }
    }
}

/// Files, and the names of those in which things are found.
#[derive(Debug, Default)]
struct Index {
    services: Vec<String>,
    files: HashMap<String, File>,
    symbols: HashMap<String, String>,
    /// By the message that is extended, as it is written in descriptors, and the number.
    extensions: HashMap<(String, i32), String>,
}

/// The reflection service, of both versions. Clones are the same.
#[derive(Clone, Debug)]
pub struct Reflection(Arc<Index>);

impl Reflection {
    /// Makes the service that describes these encoded `FileDescriptorSet`s. Of two files with one name the first is served.
    pub fn of<'a>(sets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut index = Index::default();
        for set in sets {
            let files = Files::decode(set).expect("they are descriptor sets");
            for encoded in files.file {
                let file = FileDescriptorProto::decode(&*encoded).expect("they are descriptors");
                index.add(&file, encoded);
            }
        }
        index.import_details();
        Self(Arc::new(index))
    }
}

impl Index {
    /// Lets the file of each of our services import the messages of error details, since tools such as grpcui show messages
    /// of that file and its imports alone. In `proto/` none does: clients would need them to generate code.
    fn import_details(&mut self) {
        let Some(details) = self.symbols.get(DETAILS) else {
            return;
        };
        for service in self.services.iter().filter(|it| it.starts_with(OURS)) {
            if let Some(file) = self.files.get_mut(&self.symbols[service]) {
                file.import(details.clone());
            }
        }
    }

    fn add(&mut self, file: &FileDescriptorProto, encoded: Vec<u8>) {
        if self.files.contains_key(file.name()) {
            return;
        }
        let imports = file.dependency.clone();
        let served = File { encoded, imports };
        self.files.insert(file.name().to_owned(), served);
        for message in &file.message_type {
            self.add_message(file, file.package(), message);
        }
        for kind in &file.enum_type {
            self.add_enum(file, file.package(), kind);
        }
        self.add_extensions(file, file.package(), &file.extension);
        for service in &file.service {
            let name = self.add_symbol(file, file.package(), service.name());
            for method in &service.method {
                self.add_symbol(file, &name, method.name());
            }
            self.services.push(name);
        }
    }

    fn add_message(&mut self, file: &FileDescriptorProto, within: &str, message: &DescriptorProto) {
        let name = self.add_symbol(file, within, message.name());
        for field in &message.field {
            self.add_symbol(file, &name, field.name());
        }
        for choice in &message.oneof_decl {
            self.add_symbol(file, &name, choice.name());
        }
        for nested in &message.nested_type {
            self.add_message(file, &name, nested);
        }
        for kind in &message.enum_type {
            self.add_enum(file, &name, kind);
        }
        self.add_extensions(file, &name, &message.extension);
    }

    /// Adds an enum. Its values stand beside it, not within.
    fn add_enum(&mut self, file: &FileDescriptorProto, within: &str, kind: &EnumDescriptorProto) {
        self.add_symbol(file, within, kind.name());
        for value in &kind.value {
            self.add_symbol(file, within, value.name());
        }
    }

    fn add_extensions(
        &mut self,
        file: &FileDescriptorProto,
        within: &str,
        extensions: &[FieldDescriptorProto],
    ) {
        for extension in extensions {
            self.add_symbol(file, within, extension.name());
            let key = (extension.extendee().to_owned(), extension.number());
            self.extensions.insert(key, file.name().to_owned());
        }
    }

    /// Adds a symbol and returns its full name.
    fn add_symbol(&mut self, file: &FileDescriptorProto, within: &str, name: &str) -> String {
        let full = format!("{within}.{name}");
        self.symbols.insert(full.clone(), file.name().to_owned());
        full
    }

    /// Returns the answer to a question, with the question.
    fn answer(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        let answer = match &request.message_request {
            None => None,
            Some(MessageRequest::ListServices(_)) => Some(self.list_services()),
            Some(MessageRequest::FileByFilename(name)) => self.file(Some(name)),
            Some(MessageRequest::FileContainingSymbol(name)) => self.file(self.symbols.get(name)),
            Some(MessageRequest::FileContainingExtension(it)) => {
                let key = (format!(".{}", it.containing_type), it.extension_number);
                self.file(self.extensions.get(&key))
            }
            Some(MessageRequest::AllExtensionNumbersOfType(name)) => self.extension_numbers(name),
        };
        let (error_code, why) = status::NOT_REFLECTED;
        let error = || {
            MessageResponse::ErrorResponse(ErrorResponse {
                error_code,
                error_message: why.to_owned(),
            })
        };
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            original_request: Some(request),
            message_response: Some(answer.unwrap_or_else(error)),
        }
    }

    fn list_services(&self) -> MessageResponse {
        let services = self.services.iter().cloned();
        let service = services.map(|name| ServiceResponse { name }).collect();
        MessageResponse::ListServicesResponse(ListServiceResponse { service })
    }

    /// Returns a file, and after it all that it imports, each once.
    fn file(&self, name: Option<&String>) -> Option<MessageResponse> {
        let first = name.filter(|it| self.files.contains_key(*it))?;
        let (mut names, mut seen) = (vec![first], HashSet::from([first]));
        let mut file_descriptor_proto = Vec::new();
        while let Some(name) = names.pop() {
            let file = self.files.get(name)?;
            file_descriptor_proto.push(file.encoded.clone());
            names.extend(file.imports.iter().filter(|it| seen.insert(it)));
        }
        let found = FileDescriptorResponse {
            file_descriptor_proto,
        };
        Some(MessageResponse::FileDescriptorResponse(found))
    }

    fn extension_numbers(&self, name: &str) -> Option<MessageResponse> {
        self.symbols.get(name)?;
        let extended = format!(".{name}");
        let mut extension_number: Vec<_> = self
            .extensions
            .keys()
            .filter(|(of, _)| *of == extended)
            .map(|(_, number)| *number)
            .collect();
        extension_number.sort_unstable();
        Some(MessageResponse::AllExtensionNumbersResponse(
            ExtensionNumberResponse {
                base_type_name: name.to_owned(),
                extension_number,
            },
        ))
    }
}

#[tonic::async_trait]
impl ServerReflection for Reflection {
    type ServerReflectionInfoStream = Answers<ServerReflectionResponse>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let index = self.0.clone();
        let answers = request
            .into_inner()
            .map(move |question| Ok(index.answer(question?)));
        Ok(Response::new(Box::pin(answers)))
    }
}

#[tonic::async_trait]
impl ServerReflectionAlpha for Reflection {
    type ServerReflectionInfoStream = Answers<v1alpha::ServerReflectionResponse>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<v1alpha::ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let index = self.0.clone();
        let answers = request
            .into_inner()
            .map(move |question| Ok(recoded(&index.answer(recoded(&question?)))));
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Returns a message of one version as the other has it.
fn recoded<T: Message + Default>(message: &impl Message) -> T {
    T::decode(&*message.encode_to_vec()).expect("the versions are the same on the wire")
}

#[cfg(test)]
mod tests {
    use crate::clock::Clock;
    use crate::grpc::descriptors::Descriptors;

    #[test]
    fn no_served_file_imports_one_that_is_not_served() {
        let served = Descriptors::served_with(&Clock::real()).expect("every method has its scopes");
        let index = served.described().0;
        assert!(index.files.len() > 10);
        for (name, file) in &index.files {
            for import in &file.imports {
                assert!(index.files.contains_key(import), "{name}: {import}");
            }
        }
    }
}
