//! Tokens and actors in the headers of a call.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::Refusal;
use super::actor::Given;

/// Returns the bearer token of a call.
///
/// # Errors
///
/// There is none, or more than one authorization.
pub fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Refusal::TokenMissing)?;
    if values.next().is_some() {
        return Err(Refusal::TokenInvalid(
            "there is more than one authorization",
        ));
    }
    let text = value.to_str().unwrap_or_default();
    let token = text.split_once(' ');
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let (_, token) = token.ok_or(Refusal::TokenInvalid("the authorization is not Bearer"))?;
    Ok(token)
}

/// Returns what a call gives under a name.
pub fn given<'a>(headers: &'a HeaderMap, name: &str) -> Given<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Given::Nothing,
        (Some(value), None) => value.to_str().map_or(Given::Other, Given::Text),
        (Some(_), Some(_)) => Given::Other,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value).expect("a value");
            headers.append(AUTHORIZATION, value);
        }
        headers
    }

    #[test]
    fn one_bearer_token_is_taken() {
        for value in [&b"Bearer a.b.c"[..], b"bearer a.b.c", b"BEARER a.b.c"] {
            assert_eq!(bearer(&headers(&[value])), Ok("a.b.c"));
        }
        assert_eq!(bearer(&HeaderMap::new()), Err(Refusal::TokenMissing));
        for values in [
            &[&b"Bearer a.b.c"[..], b"Bearer a.b.c"][..],
            &[b"Basic YTpi"],
            &[b"Bearer"],
            &[b""],
            &[b"a.b.c"],
            &[b"Bearer \xe5"],
        ] {
            let headers = headers(values);
            let refused = bearer(&headers);
            assert!(
                matches!(refused, Err(Refusal::TokenInvalid(_))),
                "{values:?}"
            );
        }
    }

    #[test]
    fn metadata_is_given_once_as_text() {
        let one = headers(&[b"STAFF"]);
        assert_eq!(given(&one, "authorization"), Given::Text("STAFF"));
        assert_eq!(given(&one, "actor-type"), Given::Nothing);
        assert_eq!(
            given(&headers(&[b"a", b"a"]), "authorization"),
            Given::Other
        );
        assert_eq!(
            given(&headers(&[b"\xc3\xa5"]), "authorization"),
            Given::Other
        );
    }
}
