//! The certificate and its key, as the relay would read them.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Finding;
use crate::config::Tls;
use crate::tls::{Certificates, Validity};

/// A certificate that is renewed in time has at least this long left.
const SOON: Duration = Duration::from_secs(14 * 86_400);
const DAY: u64 = 86_400;

pub(super) fn examine(tls: &Tls) -> Vec<Finding> {
    let Tls::Files { certificate, key } = tls else {
        return vec![Finding::ok("certificate", "made by the relay itself (--dev)")];
    };
    let certificates = match Certificates::load(tls.clone(), IpAddr::V4(Ipv4Addr::UNSPECIFIED)) {
        Ok(certificates) => certificates,
        Err(error) => {
            let advice = "tls.certificate and tls.key name PEM files: the chain, the relay's own first, and its key, both readable by \
                          who runs the relay";
            return vec![Finding::fail("certificate", format!("{error:#}"), advice)];
        }
    };
    let mut findings = vec![Finding::ok("certificate", format!("{}, its key fits", certificate.display()))];
    findings.extend(certificates.validity().map(|validity| expiry(validity, SystemTime::now())));
    findings.extend(names(&certificates));
    findings.extend(exposed(key));
    findings
}

fn expiry(Validity { from, until }: Validity, now: SystemTime) -> Finding {
    const WHAT: &str = "expiry";
    let days = |duration: Duration| duration.as_secs() / DAY;
    if let Ok(early) = from.duration_since(now)
        && !early.is_zero()
    {
        let advice = "look at this machine's clock";
        return Finding::fail(WHAT, format!("the certificate begins in {} s", early.as_secs()), advice);
    }
    match until.duration_since(now) {
        Err(error) => Finding::fail(
            WHAT,
            format!("expired {} days ago", days(error.duration())),
            "no client connects any more: renew the certificate; the relay reads it by itself",
        ),
        Ok(left) if left < SOON => Finding::warn(
            WHAT,
            format!("in {} days", days(left)),
            "see to it that it is renewed; the relay reads it by itself",
        ),
        Ok(left) => Finding::ok(WHAT, format!("in {} days", days(left))),
    }
}

fn names(certificates: &Certificates) -> Option<Finding> {
    const WHAT: &str = "names";
    let names = certificates.names();
    if names.is_empty() {
        let advice = "clients look at subject alternative names only: have a certificate made with the relay's name in it";
        return Some(Finding::fail(WHAT, "the certificate is for no name", advice));
    }
    Some(Finding::ok(WHAT, names.join(", ")))
}

fn exposed(key: &Path) -> Option<Finding> {
    const WHAT: &str = "private key";
    let mode = key.metadata().ok()?.permissions().mode() & 0o777;
    if mode & 0o007 == 0 {
        return Some(Finding::ok(WHAT, format!("mode {mode:04o}")));
    }
    let advice = format!("chmod 0640 {0} && chgrp tandem-relay {0}", key.display());
    Some(Finding::warn(WHAT, format!("everybody on this machine can read it (mode {mode:04o})"), advice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_certificate_is_judged_by_the_time_that_it_has_left() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 * DAY);
        let at = |days: i64| {
            let by = Duration::from_secs(days.unsigned_abs() * DAY + 60);
            if days < 0 { now - by } else { now + by }
        };
        let judge = |from, until| expiry(Validity { from: at(from), until: at(until) }, now);
        assert_eq!(judge(-30, 60), Finding::ok("expiry", "in 60 days"));
        assert_eq!(judge(-30, 5).verdict, Verdict::Warn);
        assert_eq!(judge(-90, -3).seen, "expired 3 days ago");
        assert_eq!(judge(1, 90).verdict, Verdict::Fail);
    }
}
