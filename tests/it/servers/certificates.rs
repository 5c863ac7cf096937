//! A certificate authority that nobody knows, and a server's certificate from it.

use std::fs;

use tempfile::TempDir;

use super::Engine;
use super::process;

/// The certificate is one for the name `localhost`, and for no address.
const CONFIGURATION: &str = "\
[req]
distinguished_name = none
[none]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost
";

/// `authority.pem`, `server.pem` and `server.key` in a folder that is gone when it is dropped.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes them with `openssl`, the key for a server of this kind and nobody else.
    pub fn for_server(engine: Engine) -> Self {
        let user = match engine {
            Engine::Sqlite => panic!("SQLite has no server"),
            Engine::MySql => process::unprivileged("mysql"),
            Engine::Postgres => process::unprivileged("postgres"),
        };
        let certificates = Self { folder: process::new_folder("certificates-") };
        let folder = certificates.folder.path();
        fs::write(folder.join("openssl.cnf"), CONFIGURATION).expect("writing the configuration");
        certificates.make("authority", &[]);
        certificates.make("server", &["-CA", "authority.pem", "-CAkey", "authority.key"]);
        process::give(&folder.join("server.key"), user);
        certificates
    }

    fn make(&self, name: &str, signed_by: &[&str]) {
        let (subject, key, certificate) =
            (format!("/CN={name}"), format!("{name}.key"), format!("{name}.pem"));
        let fixed = [
            "req",
            "-x509",
            "-config",
            "openssl.cnf",
            "-extensions",
            name,
            "-subj",
            &subject,
            "-days",
            "2",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ];
        let args: Vec<String> = fixed.iter().chain(signed_by).map(|&arg| arg.to_owned()).collect();
        process::prepare(&process::find_program("openssl"), &args, self.folder.path(), None);
    }

    /// The path of a file of the folder.
    pub fn path(&self, file: &str) -> String {
        self.folder.path().join(file).display().to_string()
    }
}
