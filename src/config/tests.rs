//! That values of every variable are understood or refused in the right words.

use super::settings::Flags;
use super::*;

fn flags() -> Flags {
    Flags {
        database_url: Some("sqlite:///data/one-api.db".into()),
        access_password: Some("correct horse".into()),
        ..Flags::default()
    }
}

fn problems(flags: &Flags) -> Vec<String> {
    let settings = match Settings::from_flags(flags) {
        Ok(settings) => settings,
        Err(problems) => return problems.iter().map(ToString::to_string).collect(),
    };
    Config::resolve(&settings).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = Config::resolve(&Settings::from_flags(&flags()).unwrap()).unwrap();
    assert_eq!(config.listen.to_string(), "0.0.0.0:3002");
    assert_eq!(config.tail.poll_interval, Duration::from_secs(2));
    assert_eq!(config.tail.late_window, Duration::from_secs(300));
    assert_eq!(config.tail.history, Duration::from_secs(31 * 86_400));
    assert_eq!(config.rules.max_series, 2000);
    assert_eq!(config.rules.slow_over_seconds, 5.0);
    assert_eq!(config.monitor_database, PathBuf::from("data/monitor.db"));
    assert!(!config.access.metrics_public);
}

#[test]
fn each_mistake_names_its_variable_and_what_is_accepted() {
    let set = |change: fn(&mut Flags)| {
        let mut flags = flags();
        change(&mut flags);
        problems(&flags)
    };
    let cases: Vec<(Vec<String>, &str, &str)> = vec![
        (set(|f| f.database_url = None), "DATABASE_URL", "required"),
        (set(|f| f.database_url = Some("clickhouse://h/db".into())), "DATABASE_URL", "ClickHouse"),
        (set(|f| f.log_database_url = Some("host=h user=u".into())), "LOG_DATABASE_URL", "postgres://"),
        (set(|f| f.access_password = None), "ACCESS_PASSWORD", "loopback|127.0.0.1"),
        (set(|f| f.listen = Some("3002".into())), "LISTEN", "0.0.0.0:3002"),
        (set(|f| f.monitor_database_url = Some("mysql://x".into())), "MONITOR_DATABASE_URL", "sqlite://"),
        (set(|f| f.poll_interval = Some("abc".into())), "POLL_INTERVAL", "`abc`"),
        (set(|f| f.poll_interval = Some("0s".into())), "POLL_INTERVAL", "out of range"),
        (set(|f| f.late_window = Some("9d".into())), "LATE_WINDOW", "6h"),
        (set(|f| f.history = Some("forever".into())), "HISTORY", "31d"),
        (set(|f| f.slow_request_threshold = Some("-1s".into())), "SLOW_REQUEST_THRESHOLD", "`-1s`"),
        (set(|f| f.max_series = Some("0".into())), "MAX_SERIES", "from 1"),
        (set(|f| f.max_series = Some("many".into())), "MAX_SERIES", "`many`"),
        (set(|f| f.extra_labels = Some("group,ip".into())), "EXTRA_LABELS", "group, token, user, key"),
        (set(|f| f.timezone = Some("Mars/Base".into())), "TIMEZONE", "Asia/Shanghai"),
        (set(|f| f.language = Some("fr".into())), "LANGUAGE", "zh-CN"),
        (set(|f| f.metrics_public = Some("maybe".into())), "METRICS_PUBLIC", "true, false"),
        (set(|f| f.new_api_base_url = Some("http://h".into())), "NEW_API_KEY", "both or none"),
        (set(|f| f.new_api_key = Some("abc".into())), "NEW_API_BASE_URL", "both or none"),
        (set(|f| f.telegram_bot_token = Some("abc".into())), "TELEGRAM_CHAT_ID", "both or none"),
        (set(|f| f.telegram_chat_id = Some("-1".into())), "TELEGRAM_BOT_TOKEN", "both or none"),
        (set(|f| f.new_api_user_id = Some("root".into())), "NEW_API_USER_ID", "`root`"),
        (set(|f| f.access_password_file = Some("/nowhere".into())), "ACCESS_PASSWORD", "given twice"),
        (set(|f| f.metrics_token_file = Some("/nowhere".into())), "METRICS_TOKEN", "/nowhere"),
        (set(|f| f.telegram_proxy_file = Some("/nowhere".into())), "TELEGRAM_PROXY", "/nowhere"),
    ];
    for (problems, variable, word) in cases {
        assert!(!problems.is_empty(), "{variable}: nothing was wrong");
        assert!(problems[0].starts_with(&format!("{variable}: ")), "{variable}: {problems:?}");
        assert!(word.split('|').any(|word| problems[0].contains(word)), "{word}: {problems:?}");
    }
}

#[test]
fn a_language_in_the_form_that_a_shell_has_is_understood() {
    let language = |value: &str| {
        let settings = Settings::from_flags(&Flags { language: Some(value.into()), ..flags() }).unwrap();
        Config::resolve(&settings).map(|config| config.language)
    };
    for (value, expected) in [
        ("en", Language::En),
        ("zh-CN", Language::ZhCn),
        ("en_US:en", Language::En),
        ("zh_CN:zh", Language::ZhCn),
        ("de_DE:zh_CN:en", Language::ZhCn),
        ("de_DE:de", Language::En),
    ] {
        assert_eq!(language(value).unwrap(), expected, "{value}");
    }
    assert!(language("de").is_err());
}

#[test]
fn an_sk_key_can_never_work_and_is_not_repeated() {
    let problems = problems(&Flags {
        new_api_base_url: Some("http://localhost:3000".into()),
        new_api_key: Some("sk-very-secret".into()),
        ..flags()
    });
    assert!(problems[0].starts_with("NEW_API_KEY: starts with sk-"), "{problems:?}");
    assert!(!problems.concat().contains("very-secret"));
}

#[test]
fn an_empty_variable_is_an_absent_one() {
    let empty = Some(String::new());
    let config = Config::resolve(
        &Settings::from_flags(&Flags {
            metrics_token: empty.clone(),
            log_database_url: empty.clone(),
            poll_interval: empty.clone(),
            new_api_key: empty.clone(),
            new_api_base_url: empty,
            ..flags()
        })
        .unwrap(),
    )
    .unwrap();
    assert!(config.access.metrics_token.is_none());
    assert!(config.admin.is_none());
}

#[test]
fn a_secret_can_come_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    std::fs::write(&path, "from file\n").unwrap();
    let settings = Settings::from_flags(&Flags {
        access_password: None,
        access_password_file: Some(path.display().to_string()),
        ..flags()
    })
    .unwrap();
    assert!(settings.access_password.unwrap().matches("from file"));
    std::fs::write(&path, "socks5h://u:p@proxy:1080\n").unwrap();
    let proxy = Flags { telegram_proxy_file: Some(path.display().to_string()), ..flags() };
    let settings = Settings::from_flags(&proxy).unwrap();
    assert!(settings.telegram_proxy.unwrap().matches("socks5h://u:p@proxy:1080"));
}

#[test]
fn only_what_is_loopback_needs_no_password() {
    let listening = |listen: &str| {
        problems(&Flags { listen: Some(listen.into()), access_password: None, ..flags() }).concat()
    };
    assert_eq!(listening("localhost:3002"), "");
    assert_eq!(listening("[::1]:3002"), "");
    assert!(listening("0.0.0.0:3002").starts_with("ACCESS_PASSWORD: "));
    let config = Flags { listen: Some("localhost:3002".into()), access_password: None, ..flags() };
    let config = Config::resolve(&Settings::from_flags(&config).unwrap()).unwrap();
    assert!(config.listen.ip().is_loopback() && config.access.metrics_public);
}

#[test]
fn all_problems_are_reported_at_once() {
    let problems =
        problems(&Flags { poll_interval: Some("x".into()), max_series: Some("y".into()), ..flags() });
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn listening_on_loopback_needs_no_password_and_opens_metrics() {
    let config = Config::resolve(
        &Settings::from_flags(&Flags {
            access_password: None,
            listen: Some("127.0.0.1:3002".into()),
            ..flags()
        })
        .unwrap(),
    )
    .unwrap();
    assert!(config.access.metrics_public);
}

#[test]
fn no_debug_output_shows_a_secret() {
    const MARK: &str = "h1dden";
    let secret = |text: &str| Some(text.replace("{}", MARK));
    let flags = Flags {
        database_url: secret("mysql://root:{}@h/db"),
        log_database_url: secret("root:{}@tcp(h:3306)/logs"),
        access_password: secret("{}"),
        metrics_token: secret("{}-token"),
        new_api_base_url: Some("http://h".into()),
        new_api_key: secret("{}-key"),
        telegram_bot_token: secret("123:{}"),
        telegram_chat_id: Some("-1001".into()),
        telegram_proxy: secret("socks5h://u:{}@h:1080"),
        feishu_webhook: secret("https://open.feishu.cn/open-apis/bot/v2/hook/{}"),
        feishu_secret: secret("{}-signature"),
        wecom_webhook: secret("https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key={}"),
        ..flags()
    };
    let config = Config::resolve(&Settings::from_flags(&flags).unwrap()).unwrap();
    let text = format!("{config:?}");
    assert!(!text.contains(MARK), "{text}");
    // They are there.
    assert!(config.access.password.is_some_and(|password| password.matches(MARK)));
    assert!(config.delivery.telegram.is_some() && config.delivery.wecom.is_some());
    assert_eq!(config.delivery.feishu.unwrap().secret.unwrap().expose(), "h1dden-signature");
}

#[test]
fn fault_5_a_breaker_that_acts_does_not_start_without_a_password() {
    let acting = |mode: Option<&str>, password: Option<&str>| {
        problems(&Flags {
            listen: Some("127.0.0.1:3002".into()),
            access_password: password.map(Into::into),
            new_api_base_url: Some("http://new-api:3000".into()),
            new_api_key: Some("0123456789abcdef".into()),
            breaker_mode: mode.map(Into::into),
            ..flags()
        })
    };
    for mode in [None, Some("enforce")] {
        for password in [None, Some(""), Some("  ")] {
            let problems = acting(mode, password);
            assert!(
                problems[0].starts_with("ACCESS_PASSWORD: is required because the breaker"),
                "{problems:?}"
            );
        }
        assert!(acting(mode, Some("correct horse")).is_empty());
    }
    for mode in ["off", "dry_run"] {
        assert!(acting(Some(mode), None).is_empty(), "{mode}");
    }
    let alone = problems(&Flags { breaker_mode: Some("enforce".into()), ..flags() });
    assert!(alone[0].starts_with("BREAKER_MODE: `enforce` needs NEW_API_BASE_URL"), "{alone:?}");
}

#[test]
fn own_wording_is_tried_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("messages.j2");
    let with = |text: &str| {
        std::fs::write(&path, text).unwrap();
        problems(&Flags { message_template: Some(path.display().to_string()), ..flags() })
    };
    assert!(with("{{ headline }}").is_empty());
    let said = with("fine\n{{ nobody }}");
    assert!(
        said.len() == 1 && said[0].starts_with("MESSAGE_TEMPLATE: ") && said[0].contains("line 2"),
        "{said:?}"
    );
    std::fs::remove_file(&path).unwrap();
    let missing = problems(&Flags { message_template: Some(path.display().to_string()), ..flags() });
    assert!(missing.len() == 1 && missing[0].contains("cannot be read"), "{missing:?}");
}
