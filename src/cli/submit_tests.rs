use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: SubmitArgs,
}

const PAYLOAD: &str = r#"{"do":"selfplay","seed":7,"games":16,"simulations":16,"shape":"tiny"}"#;

fn line(args: &[&str]) -> Result<SubmitArgs, String> {
    let args = ["submit"].into_iter().chain(args.iter().copied());
    let parsed = Line::try_parse_from(args);
    parsed
        .map(|line| line.args)
        .map_err(|error| error.to_string())
}

/// Every term of a job can be given as an option and as a field, and both mean the same.
#[test]
fn options_and_fields_mean_the_same() {
    let options = [
        "--configuration",
        "hex8_2p",
        "--payload",
        PAYLOAD,
        "--priority",
        "200",
        "--key",
        "nightly",
        "--scope",
        "configuration",
        "--after",
        "j1,j2",
        "--after-policy",
        "any-done",
        "--delay",
        "10m",
        "--every",
        "1h",
        "--slots",
        "2",
        "--device",
        "cuda",
        "--gpu-memory",
        "4096",
        "--labels",
        "quiet,big,quiet",
        "--tenant",
        "ana",
        "--attempts",
        "7",
        "--backoff",
        "5s",
        "--backoff-max",
        "2m",
    ];
    let fields = format!(
        r#"{{"configuration":"hex8_2p","payload":{PAYLOAD},"priority":200,"key":"nightly","scope":"configuration",
        "after":["j1","j2"],"after-policy":"any-done","delay":"10m","every":"1h","slots":2,"device":"cuda",
        "gpu-memory":4096,"labels":["quiet","big","quiet"],"tenant":"ana","attempts":7,"backoff":"5s",
        "backoff-max":"2m"}}"#
    );
    let now = Millis::from_secs(1_000);
    let from_options = line(&options).unwrap().job.request(now).unwrap();
    let from_fields = requests(parse(fields.as_bytes()).unwrap(), now).unwrap();
    assert_eq!(from_fields, std::slice::from_ref(&from_options));
    insta::assert_snapshot!(serde_json::to_string_pretty(&from_options).unwrap());
    let plain = line(&["--configuration", "hex8_2p", "--payload", PAYLOAD]).unwrap();
    let plain = plain.job.request(now).unwrap();
    let payload = Payload::from_json(PAYLOAD).unwrap();
    let spec = JobSpec::plain(
        payload.kind(),
        "hex8_2p".parse().unwrap(),
        payload.to_json(),
    );
    assert_eq!(
        plain,
        JobRequest {
            spec,
            terms: Terms::default()
        }
    );
}

/// A file may be an array, or objects one after the other.
#[test]
fn files_have_two_forms() {
    let job = format!(r#"{{"configuration":"hex8_2p","payload":{PAYLOAD}}}"#);
    let array = parse(format!(" [{job},{job}]").as_bytes()).unwrap();
    let lines = parse(format!("{job}\n{job}\n").as_bytes()).unwrap();
    assert_eq!(array, lines);
    assert_eq!(array.len(), 2);
}

/// What is wrong is said with the place where it is.
#[test]
fn mistakes_are_named() {
    let job = format!(r#"{{"configuration":"hex8_2p","payload":{PAYLOAD}}}"#);
    let of = |file: &str| {
        let texts = parse(file.as_bytes())?;
        requests(texts, Millis(0))
    };
    let said = |file: &str| format!("{:#}", of(file).unwrap_err());
    let cases = [
        "",
        "[]",
        "[{}]",
        &format!(r#"{job} {{"configuration":"hex8_2p"}}"#),
        &job.replace("}}", r#"},"prio":1}"#),
        &job.replace("}}", r#"},"delay":"soon"}"#),
        &job.replace("games", "gmaes"),
        &job.replace("}}", r#"},"scope":"world"}"#),
        &job.repeat(SUBMIT_JOBS_MAX + 1),
    ];
    let said: Vec<_> = cases.iter().map(|file| said(file)).collect();
    insta::assert_snapshot!(said.join("\n"));
    let other = format!(r#"{{"configuration":"hex9_9p","payload":{PAYLOAD}}}"#);
    let error = check_jobs(&of(&other).unwrap()).unwrap_err();
    assert!(error.starts_with("job 1 of 1: "), "{error}");
    assert!(
        line(&["--configuration", "hex8_2p"])
            .unwrap_err()
            .contains("--payload")
    );
    assert!(
        line(&["--file", "-", "--priority", "1"])
            .unwrap_err()
            .contains("cannot be used")
    );
    assert!(line(&["--file", "-"]).is_ok());
}
