//! Identity: what a certificate says of who is calling. Nothing else is believed.
//!
//! In: the certificate of the TLS session, which the CA has been checked for. Out: a [`Peer`].

use std::fmt;
use std::str::FromStr;

use mainstay_core::id::HostId;
use tonic::Status;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Longest name of an operator.
const NAME_BYTES_MAX: usize = 64;

/// What an operator may do. In rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Also approves, holds and undoes.
    Operator,
    /// Also enrols, pushes policy, makes operators and backups.
    Admin,
}

impl Role {
    /// The word in certificates and on the screen.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Viewer, Self::Operator, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not a role (viewer, operator, admin)"))
    }
}

/// The name of an operator: short, and safe in a URI, a log line and a key.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-@".contains(&b);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(good) {
        return Err(format!("`{name}` is not a name (letters, digits and ._-@, at most {NAME_BYTES_MAX})"));
    }
    Ok(())
}

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Somebody without a certificate.
    Nobody,
    /// An agent.
    Host(HostId),
    /// An operator.
    Operator {
        /// The name.
        name: String,
        /// What it may do.
        role: Role,
    },
}

impl Peer {
    /// The URI that stands in the certificate.
    #[must_use]
    pub fn uri(&self) -> String {
        match self {
            Self::Nobody => String::new(),
            Self::Host(host) => format!("mainstay://host/{host}"),
            Self::Operator { name, role } => format!("mainstay://operator/{name}?role={role}"),
        }
    }

    fn of_uri(uri: &str) -> Option<Self> {
        if let Some(host) = uri.strip_prefix("mainstay://host/") {
            return host.parse().ok().map(Self::Host);
        }
        let (name, role) = uri.strip_prefix("mainstay://operator/")?.split_once("?role=")?;
        check_name(name).ok()?;
        Some(Self::Operator { name: name.to_owned(), role: role.parse().ok()? })
    }

    /// Whom a certificate names. One with none of our URIs, or with several, names nobody.
    #[must_use]
    pub fn of_certificate(der: &[u8]) -> Self {
        let read = || {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            let names = certificate.subject_alternative_name().ok()??;
            let uris: Vec<&str> = names
                .value
                .general_names
                .iter()
                .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
                .collect();
            if let [uri] = uris[..] { Self::of_uri(uri) } else { None }
        };
        read().unwrap_or(Self::Nobody)
    }

    /// The host that is calling.
    ///
    /// # Errors
    /// If it is not a host.
    pub fn host(&self) -> Result<HostId, Status> {
        match self {
            Self::Host(host) => Ok(*host),
            Self::Nobody => Err(Status::unauthenticated("an agent's certificate is needed; enrol the host first")),
            Self::Operator { .. } => {
                Err(Status::permission_denied("an agent's certificate is needed, not an operator's"))
            }
        }
    }

    /// The operator that is calling, if it may do what needs this role.
    ///
    /// # Errors
    /// If it is not an operator, or may not.
    pub fn operator(&self, least: Role) -> Result<(&str, Role), Status> {
        match self {
            Self::Operator { name, role } if *role >= least => Ok((name, *role)),
            Self::Operator { name, role } => Err(Status::permission_denied(format!(
                "this needs the role {least}, {name} has the role {role}; an admin can give another certificate with `mainstay operator create`"
            ))),
            Self::Host(_) => Err(Status::permission_denied("an operator's certificate is needed, not an agent's")),
            Self::Nobody => Err(Status::unauthenticated(
                "an operator's certificate is needed; on the collector's machine, as root: mainstay operator create NAME --role admin",
            )),
        }
    }
}

/// The caller of a request, as the connection established it.
///
/// # Errors
/// Never for a request that came through a listener of the collector.
pub fn peer<T>(request: &tonic::Request<T>) -> Result<Peer, Status> {
    request.extensions().get::<Peer>().cloned().ok_or_else(|| Status::internal("the connection has no identity"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_read_as_they_are_written() {
        let host = Peer::Host(HostId([7; 16]));
        let operator = Peer::Operator { name: "ops".to_owned(), role: Role::Admin };
        for peer in [host, operator] {
            assert_eq!(Peer::of_uri(&peer.uri()), Some(peer));
        }
        for bad in [
            "",
            "mainstay://host/7",
            "mainstay://operator/a b?role=admin",
            "mainstay://operator/a?role=root",
            "http://x",
        ] {
            assert_eq!(Peer::of_uri(bad), None, "{bad}");
        }
        assert_eq!(Peer::of_certificate(b"no certificate"), Peer::Nobody);
    }

    #[test]
    fn each_role_may_what_the_lower_ones_may() {
        let peer = |role| Peer::Operator { name: "ann".to_owned(), role };
        assert!(peer(Role::Admin).operator(Role::Viewer).is_ok());
        assert!(peer(Role::Operator).operator(Role::Operator).is_ok());
        let refused = peer(Role::Viewer).operator(Role::Operator).unwrap_err();
        assert!(refused.message().contains("needs the role operator, ann has the role viewer"), "{refused}");
        assert_eq!(Peer::Nobody.operator(Role::Viewer).unwrap_err().code(), tonic::Code::Unauthenticated);
        assert!(Peer::Host(HostId([1; 16])).operator(Role::Viewer).is_err());
        assert!(peer(Role::Admin).host().is_err());
    }
}
