//! rustls' webpki as a judge, for as long as there is input. A line asks, in base64:
//! `path HOST COUNT ROOT [CERTIFICATE ...] [LIST ...]`, COUNT certificates, the root first, then the lists; HOST may
//! be "-". The answer is a line for each finding, and a line with a dot.

use std::io::{BufRead, Write};
use std::time::SystemTime;

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, KeyUsage, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, anchor_from_trusted_cert,
};

fn path(line: &str) -> Result<(), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, host, count, ders @ ..] = words.as_slice() else {
        return Err("path HOST COUNT DER ...".into());
    };
    let count: usize = count.parse().map_err(|error| format!("{error}"))?;
    let ders: Result<Vec<Vec<u8>>, _> =
        ders.iter().map(|der| BASE64_STANDARD.decode(der)).collect();
    let ders = ders.map_err(|error| error.to_string())?;
    let (certificates, lists) = ders.split_at(count);
    let certificates: Vec<CertificateDer<'_>> = certificates
        .iter()
        .map(|der| CertificateDer::from(der.as_slice()))
        .collect();
    let root =
        anchor_from_trusted_cert(&certificates[0]).map_err(|error| format!("root: {error:?}"))?;
    if count == 1 {
        return Ok(());
    }

    let lists: Result<Vec<CertRevocationList<'_>>, _> = lists
        .iter()
        .map(|der| BorrowedCertRevocationList::from_der(der).map(CertRevocationList::from))
        .collect();
    let lists = lists.map_err(|error| format!("list: {error:?}"))?;
    let lists: Vec<&CertRevocationList<'_>> = lists.iter().collect();
    let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
        options
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Deny)
            .build()
    });

    let leaf = EndEntityCert::try_from(&certificates[count - 1])
        .map_err(|error| format!("leaf: {error:?}"))?;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|error| error.to_string())?;
    let usage = if *host == "-" {
        KeyUsage::client_auth()
    } else {
        KeyUsage::server_auth()
    };
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &[root],
        &certificates[1..count - 1],
        UnixTime::since_unix_epoch(now),
        usage,
        revocation,
        None,
    )
    .map_err(|error| format!("path: {error:?}"))?;
    if *host != "-" {
        let name = ServerName::try_from(*host).map_err(|error| error.to_string())?;
        leaf.verify_is_valid_for_subject_name(&name)
            .map_err(|error| format!("name: {error:?}"))?;
    }
    Ok(())
}

fn main() {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if let Err(finding) = path(&line) {
            println!(
                "{}",
                finding.split_whitespace().collect::<Vec<_>>().join(" ")
            );
        }
        println!(".");
        let _ = std::io::stdout().flush();
    }
}
