//! A message as a mail.

use std::time::Duration;

use lettre::message::{Mailbox, Mailboxes, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::outbox::Message;
use crate::config::{SmtpTarget, SmtpTls};

/// Longest wait for each answer of the server.
const DEADLINE: Duration = Duration::from_secs(20);

/// Hands the mail to the server.
///
/// # Errors
/// Why it was not taken, in words without secrets.
pub(super) async fn send(target: &SmtpTarget, message: &Message) -> Result<(), String> {
    let mail = mail(target, message)?;
    let builder = match target.tls {
        SmtpTls::Starttls => AsyncSmtpTransport::<Tokio1Executor>::starttls_relay(&target.host),
        SmtpTls::Tls => AsyncSmtpTransport::<Tokio1Executor>::relay(&target.host),
        SmtpTls::None => Ok(AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&target.host)),
    };
    let mut builder = builder.map_err(|error| error.to_string())?.port(target.port).timeout(Some(DEADLINE));
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
    let answer = builder.build().send(mail).await.map_err(|error| crate::actuate::chain(&error))?;
    if answer.is_positive() { Ok(()) } else { Err(format!("answered {}", answer.code())) }
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
    async fn a_mail_reaches_the_server_with_subject_and_text() {
        let (port, served) = server().await;
        let target = SmtpTarget {
            host: "127.0.0.1".to_owned(),
            port,
            tls: SmtpTls::None,
            from: "Mainstay <mainstay@example.org>".to_owned(),
            to: vec!["a@example.org".to_owned(), "b@example.org".to_owned()],
            credentials_file: None,
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
