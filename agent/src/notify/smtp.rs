//! A message as a mail.

use std::time::Duration;

use lettre::message::{Mailbox, Mailboxes, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::outbox::Message;
use crate::config::{SmtpTarget, SmtpTls};
use crate::http;

/// Longest for the whole conversation. lettre's own timeout ends with the connecting: a server that falls silent later
/// would be waited for without end.
const DEADLINE: Duration = Duration::from_secs(45);

/// Hands the mail to the server.
///
/// # Errors
/// Why it was not taken, in words without secrets.
pub(super) async fn send(target: &SmtpTarget, message: &Message) -> Result<(), String> {
    send_within(target, message, DEADLINE).await
}

async fn send_within(target: &SmtpTarget, message: &Message, deadline: Duration) -> Result<(), String> {
    let silent = |_| format!("{}:{} fell silent for {deadline:?}", target.host, target.port);
    tokio::time::timeout(deadline, converse(target, message)).await.map_err(silent)?
}

async fn converse(target: &SmtpTarget, message: &Message) -> Result<(), String> {
    let mail = mail(target, message)?;
    let tls = match target.tls {
        // Required, never opportunistic: a man in the middle would only have to leave the offer out.
        SmtpTls::Starttls => Tls::Required(tls(target)?),
        SmtpTls::Tls => Tls::Wrapper(tls(target)?),
        SmtpTls::None => Tls::None,
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&target.host)
        .port(target.port)
        .tls(tls)
        .timeout(Some(DEADLINE));
    if let Some(file) = &target.credentials_file {
        let text = file.read().map_err(|error| crate::actuate::chain(&error))?;
        let mut lines = text.lines();
        let (Some(user), Some(password)) = (lines.next(), lines.next()) else {
            return Err(
                "credentials_file must have the user on its first line and the password on the second".to_owned()
            );
        };
        builder = builder.credentials(Credentials::new(user.to_owned(), password.to_owned()));
    }
    // Its text holds the causes already.
    let answer = builder.build().send(mail).await.map_err(|error| error.to_string())?;
    if answer.is_positive() { Ok(()) } else { Err(format!("answered {}", answer.code())) }
}

/// What the server has to prove: its name, by a certificate of `ca_file`, else of the system's.
fn tls(target: &SmtpTarget) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(target.host.clone());
    if let Some(file) = &target.ca_file {
        builder = builder.certificate_store(CertificateStore::None);
        for certificate in http::certificates(file).map_err(|error| error.to_string())? {
            let certificate = Certificate::from_der(certificate.to_vec()).map_err(|error| error.to_string())?;
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|error| error.to_string())
}

fn mail(target: &SmtpTarget, message: &Message) -> Result<lettre::Message, String> {
    let wrong = |error: &dyn std::fmt::Display| error.to_string();
    let from: Mailbox = target.from.parse().map_err(|e| wrong(&e))?;
    let to: Mailboxes = target.to.join(", ").parse().map_err(|e| wrong(&e))?;
    lettre::Message::builder()
        .from(from)
        .mailbox(header::To::from(to))
        .subject(message.subject())
        // The same mail sent twice shows as one.
        .message_id(Some(format!("<{}@mainstay.invalid>", message.action)))
        .header(header::ContentType::TEXT_PLAIN)
        .body(message.text.clone())
        .map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    /// A mail server that takes one mail and gives back what it was told.
    async fn server() -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            write.write_all(b"220 test\r\n").await.unwrap();
            let (mut lines, mut told, mut in_data) = (BufReader::new(read).lines(), String::new(), false);
            while let Some(line) = lines.next_line().await.unwrap() {
                told.push_str(&line);
                told.push('\n');
                let answer: &[u8] = match (in_data, line.as_str()) {
                    (true, ".") => {
                        in_data = false;
                        b"250 taken\r\n"
                    }
                    (true, _) => continue,
                    (false, "DATA") => {
                        in_data = true;
                        b"354 go on\r\n"
                    }
                    (false, _) => b"250 ok\r\n",
                };
                write.write_all(answer).await.unwrap();
                if line == "." {
                    break;
                }
            }
            told
        });
        (port, served)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_server_that_falls_silent_is_not_waited_for_without_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = SmtpTarget {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
            tls: SmtpTls::None,
            from: "mainstay@example.org".to_owned(),
            to: vec!["a@example.org".to_owned()],
            credentials_file: None,
            ca_file: None,
        };
        let message = Message {
            action: "a-1".to_owned(),
            decision: "d-1".to_owned(),
            to: "mail".to_owned(),
            text: "app.service failed on h1".to_owned(),
            hostname: "h1".to_owned(),
            created_ms: 0,
        };
        let silent = async {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            write.write_all(b"220 test\r\n").await.unwrap();
            let mut lines = BufReader::new(read).lines();
            while lines.next_line().await.unwrap_or_default().is_some() {}
        };
        let (sent, ()) = tokio::join!(send_within(&target, &message, Duration::from_millis(200)), silent);
        assert!(sent.unwrap_err().ends_with("fell silent for 200ms"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_mail_reaches_the_server_with_subject_and_text() {
        let (port, served) = server().await;
        let target = SmtpTarget {
            host: "127.0.0.1".to_owned(),
            port,
            tls: SmtpTls::None,
            from: "Mainstay <mainstay@example.org>".to_owned(),
            to: vec!["a@example.org".to_owned(), "b@example.org".to_owned()],
            credentials_file: None,
            ca_file: None,
        };
        let message = Message {
            action: "a-1".to_owned(),
            decision: "d-1".to_owned(),
            to: "mail".to_owned(),
            text: "app.service failed on h1\nIt was restarted 3 times.".to_owned(),
            hostname: "h1".to_owned(),
            created_ms: 0,
        };
        send(&target, &message).await.unwrap();
        let told = served.await.unwrap();
        for part in ["RCPT TO:<b@example.org>", "Subject: app.service failed on h1", "It was restarted 3 times."] {
            assert!(told.contains(part), "{part} is missing in:\n{told}");
        }
    }
}
