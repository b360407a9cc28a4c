//! Authorities and certificates of a test, in files of its own directory.

use pgwarden::api::client::Client;
use pgwarden::api::security::Wanted;
use pgwarden::api::tls::client::{self, Trust};
use pgwarden::api::tls::{Pair, server};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The password of the encrypted ones.
pub(crate) const PASSWORD: &str = "right";

/// A key by its place in the recorded file: plain, encrypted, in the older form, with 3DES.
pub(crate) fn recorded_key(number: usize) -> String {
    let all = pem::parse_many(include_str!("../recorded/keys.pem")).unwrap();
    pem::encode(&all[number])
}

/// A directory that goes with the test.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pgwarden-tls-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Write a file, whole or not at all: somebody may be reading it.
    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        let (path, draft) = (self.path(name), self.path("draft"));
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, &path).unwrap();
        path
    }

    /// Write a certificate and its key as `name.crt` and `name.key`.
    pub(crate) fn put_pair(&self, name: &str, issued: &Issued) -> Pair {
        Pair {
            certfile: self.put(&format!("{name}.crt"), &issued.certificate),
            keyfile: Some(self.put(&format!("{name}.key"), &issued.key)),
            password: None,
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Somebody who signs.
pub(crate) struct Authority {
    pub(crate) certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What it signed.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    /// For a server at 127.0.0.1, valid in these years.
    pub(crate) fn server(&self, from: i32, until: i32) -> Issued {
        self.sign(&KeyPair::generate().unwrap(), from, until)
    }

    /// The same with a given key.
    pub(crate) fn sign(&self, key: &KeyPair, from: i32, until: i32) -> Issued {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        Issued {
            certificate: params.signed_by(key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// For a client.
    pub(crate) fn client(&self) -> Issued {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        Issued {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// Who believes this authority, and shows that certificate.
    pub(crate) fn believer(&self, dir: &Dir, pair: Option<Pair>) -> Client {
        let path = dir.put("believed.crt", &self.certificate);
        let key = "ctl.cacert";
        let trust = Trust::File { key, path };
        let material = client::Wanted { trust, pair }.load(0).unwrap();
        Client::with_tls(&material.config)
    }
}

/// TLS with this pair, asking nothing of clients.
pub(crate) fn wanted(pair: Pair) -> Wanted {
    Wanted {
        tls: Some(server::Wanted {
            pair,
            cafile: None,
            ciphers: None,
            verify_client: server::VerifyClient::None,
        }),
        ..Wanted::default()
    }
}

/// The same, asking for certificates of an authority.
pub(crate) fn asking(pair: Pair, cafile: &Path, verify_client: server::VerifyClient) -> Wanted {
    let mut wanted = wanted(pair);
    if let Some(tls) = &mut wanted.tls {
        tls.cafile = Some(cafile.to_owned());
        tls.verify_client = verify_client;
    }
    wanted
}
