//! The dictionary: every phrase of a message in every language, side by side. A name in braces is replaced by a text.

use super::text::Text;
use crate::config::Language;

/// Says things in one language.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    language: Language,
}

impl Words {
    /// Of a language.
    pub(super) const fn new(language: Language) -> Self {
        Self { language }
    }

    /// A phrase without anything to fill in.
    pub(super) const fn of(self, phrase: Phrase) -> &'static str {
        match self.language {
            Language::En => phrase.both().0,
            Language::ZhCn => phrase.both().1,
        }
    }

    /// A phrase with texts filled in.
    pub(super) fn say(self, phrase: Phrase, texts: &[(&str, Text)]) -> Text {
        Text::filled(self.of(phrase), texts)
    }

    /// The same where all texts are our own and short, such as numbers.
    pub(super) fn count(self, phrase: Phrase, number: u64) -> String {
        self.of(phrase).replace("{count}", &super::figures::grouped(number))
    }

    /// That so many characters were left out.
    pub(super) fn cut(self, characters: usize) -> String {
        self.count(Phrase::Cut, u64::try_from(characters).unwrap_or(u64::MAX))
    }
}

/// Makes the enum, and what each of it says in English and in Chinese.
macro_rules! phrases {
    ($($name:ident: $en:literal, $zh:literal;)+) => {
        /// Something that messages say.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Phrase { $(#[doc = concat!("“", $en, "”")] $name,)+ }

        impl Phrase {
            /// All of them.
            #[cfg(test)]
            pub(super) const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// In English and in Chinese.
            const fn both(self) -> (&'static str, &'static str) {
                match self { $(Self::$name => ($en, $zh),)+ }
            }
        }
    };
}

phrases! {
    // Small change.
    Colon: ": ", "：";
    Comma: ", ", "，";
    Space: " ", "";
    Cut: "…(+{count} characters)", "…(+{count} 字)";
    CutLines: "…(+{count} lines)", "…(+{count} 行)";
    Days: "d", "天";
    Hours: "h", "小时";
    Minutes: "min", "分钟";
    Seconds: "s", "秒";
    In: "{time} (in {length})", "{time}（{length}后）";
    Ago: "{time} ({length} ago)", "{time}（{length}前）";

    // Titles and headlines.
    Titled: "{what}: {whom}", "{what}：{whom}";
    Resolved: "Resolved · {what}", "已恢复 · {what}";
    StillFiring: "Still firing · {what}", "仍未恢复 · {what}";
    CountFiring: "{count} alerts", "{count} 条告警";
    CountFiringOne: "{count} alert", "{count} 条告警";
    CountMixed: "{count} firing", "{count} 条未恢复";
    CountResolved: "{count} resolved", "{count} 条已恢复";
    CountOf: "{what}: {counts}", "{what}：{counts}";
    NoName: "Alert without a name", "未命名告警";
    TagDisabled: "channel disabled", "渠道已禁用";
    TagDryRun: "dry run, channel still on", "演练，渠道未动";
    TagAlready: "channel was off already", "渠道此前已禁用";
    TagNotDisabled: "channel NOT disabled", "渠道未禁用！";
    TagUnverified: "channel's state UNCERTAIN", "渠道状态未确认！";

    // What fields are called.
    Limit: "Limit", "限额";
    Rule: "Rule", "规则";
    Channel: "Channel", "渠道";
    Model: "Model", "模型";
    Group: "Group", "分组";
    Used: "Used", "已用";
    Now: "Now", "当前";
    Window: "Window", "窗口";
    Since: "Since", "开始";
    At: "At", "时间";
    Lasted: "Lasted", "持续";
    Breaker: "Breaker", "熔断";
    Afterwards: "Then", "后续";
    Biggest: "Used most by", "用量最多";
    Labels: "Labels", "标签";
    AskedBy: "Asked for by", "触发";
    Event: "event {event}", "事件 {event}";
    Act: "act {act}", "操作 {act}";

    // Links.
    LinkDashboard: "Dashboard", "仪表盘";
    LinkLimits: "Limits", "限额看板";
    LinkRunbook: "Runbook", "处理手册";
    LinkSilence: "Silence", "静默";
    LinkSource: "Query", "查询";
    LinkSender: "Alertmanager", "Alertmanager";

    // Limits.
    UsedOf: "{used} of {max} {unit}", "{used} / {max} {unit}";
    UsedShare: "{used} of {max} {unit}, {percent}%", "{used} / {max} {unit}，{percent}%";
    UnitUsd: "USD", "美元";
    UnitTokens: "tokens", "Token";
    UnitInputTokens: "input tokens", "输入 Token";
    UnitOutputTokens: "output tokens", "输出 Token";
    UnitRequests: "requests", "次请求";
    UnitErrors: "failed attempts", "次失败";
    UnitQuota: "quota", "额度";
    Today: "today", "今日";
    ThisWeek: "this week", "本周";
    ThisMonth: "this month", "本月";
    LastWindow: "last {window}", "最近{window}";
    Resets: "{window}, resets {time}", "{window}，将于{time}重置";
    CalmsDown: "{window}, with no further use it falls below the warning level at {time}", "{window}，若不再使用，将于{time}回落";
    Share: "{amount} {unit}, {percent}%", "{amount} {unit}，{percent}%";
    ShareAlone: "{amount} {unit}", "{amount} {unit}";
    NoUser: "(no user)", "（无用户）";
    NoModel: "(no model)", "（无模型）";
    Anywhere: "(no channel)", "（无渠道）";
    OtherChannels: "all other channels", "其余渠道";
    OtherModels: "all other models", "其余模型";
    FromTo: "{length}, from {from} to {to}", "{length}，{from} 至 {to}";
    SenderTruncated: "+{count} not listed: the sender left them out", "另有 {count} 条未列出：发送方已省略";
    NotListed: "+{count} not listed: see /api/v1/incidents", "另有 {count} 条未列出，见 /api/v1/incidents";
    LabelsLeft: " (+{count})", "（另有 {count} 个）";

    // What was done to a channel.
    ChannelOf: "channel {channel}", "渠道 {channel}";
    ChannelUnknown: "the channel", "该渠道";
    Asks: "This alert asks for {channel} to be disabled.", "该告警要求禁用{channel}。";
    AskedUnknown: "It was asked to disable {channel}; how that went is at /api/v1/breaker.", "已请求禁用{channel}，结果见 /api/v1/breaker。";
    TripPending: "In progress: disabling {channel}; the result follows.", "处理中：正在禁用{channel}，结果随后告知。";
    TripDone: "Disabled {channel}, and new-api confirms it.", "已禁用{channel}，已向 new-api 核实。";
    TripWouldDo: "Dry run: would have disabled {channel}. It was not touched and goes on answering (BREAKER_MODE=dry_run).", "演练：本应禁用{channel}，但未做任何改动，渠道仍在服务（BREAKER_MODE=dry_run）。";
    TripAlreadyByHand: "Nothing to do: {channel} had been disabled by hand before. It is not enabled again by the monitor.", "无需操作：{channel}此前已被手动禁用，监控不会自动启用它。";
    TripAlreadyByGateway: "Nothing to do: {channel} had been disabled by new-api itself before. new-api may enable it again when its own test succeeds.", "无需操作：{channel}此前已被 new-api 自动禁用；new-api 自检成功后可能会重新启用它。";
    TripAlreadyOurs: "Nothing to do: {channel} was already disabled by the circuit breaker (act {act}).", "无需操作：{channel}此前已由熔断禁用（操作 {act}）。";
    TripAlreadyHeld: "{channel} was already disabled by the circuit breaker (act {act}); held for this alert too.", "{channel}此前已由熔断禁用（操作 {act}），现在也因该告警保持禁用。";
    TripRefused: "NOT disabled: {channel}. {why}", "未禁用{channel}。{why}";
    TripOver: "Left as it is: {channel}. The alert was over before anything was done.", "{channel}保持原状：操作之前告警已结束。";
    TripFailed: "NOT disabled: {channel}. {why}", "禁用失败：{channel}。{why}";
    TripUnverified: "UNCERTAIN: new-api accepted the request to disable {channel}, but {channel} still reads as {status}. Check it in new-api now.", "未确认：new-api 已接受禁用{channel}的请求，但回读状态仍为“{status}”。请立即在 new-api 中检查。";
    TripUnread: "UNCERTAIN: the request to disable {channel} was sent, but whether it had an effect could not be read. Check the channel in new-api now.", "未确认：已发送禁用{channel}的请求，但无法读取结果。请立即在 new-api 中检查该渠道。";
    TripReleased: "No longer held by the circuit breaker: {channel}, which had been disabled for this alert.", "曾因该告警禁用{channel}，现已不再由熔断保持禁用。";
    TripByHand: "The channel keeps serving requests and spending money. To stop it, disable it by hand in new-api.", "该渠道仍在服务、仍在产生费用。如需停止，请在 new-api 中手动禁用。";
    RestorePending: "In progress: enabling {channel} again; the result follows.", "处理中：正在重新启用{channel}，结果随后告知。";
    RestoreDone: "Enabled {channel} again, and new-api confirms it.", "已重新启用{channel}，已向 new-api 核实。";
    RestoreWouldDo: "Dry run: would have enabled {channel} again. It was not touched (BREAKER_MODE=dry_run).", "演练：本应重新启用{channel}，但未做任何改动（BREAKER_MODE=dry_run）。";
    RestoreAlready: "Nothing to do: {channel} had been enabled before.", "无需操作：{channel}此前已启用。";
    RestoreByPerson: "Nothing to do: {channel} is enabled now. A person enabled it.", "无需操作：{channel}当前已启用，由人工启用。";
    RestoreRefused: "NOT enabled again: {channel}. {why}", "未重新启用{channel}。{why}";
    RestoreFailed: "NOT enabled again: {channel}. {why}", "重新启用失败：{channel}。{why}";
    RestoreUnverified: "UNCERTAIN: new-api accepted the request to enable {channel} again, but {channel} still reads as {status}. Check it in new-api.", "未确认：new-api 已接受启用{channel}的请求，但回读状态仍为“{status}”。请在 new-api 中检查。";
    RestoreUnread: "UNCERTAIN: the request to enable {channel} again was sent, but whether it had an effect could not be read. Check the channel in new-api.", "未确认：已发送启用{channel}的请求，但无法读取结果。请在 new-api 中检查该渠道。";
    RestoreByHand: "It stays disabled. If it should answer again, enable it by hand in new-api.", "该渠道保持禁用。如需恢复服务，请在 new-api 中手动启用。";
    StatusEnabled: "enabled", "已启用";
    StatusByHand: "disabled by hand", "已手动禁用";
    StatusByGateway: "disabled by new-api itself", "已自动禁用";
    StatusOther: "status {status}", "状态 {status}";

    // What becomes of a channel that was disabled.
    ThenNever: "It stays disabled until a person enables it in new-api.", "需人工在 new-api 中启用，否则一直保持禁用。";
    ThenAt: "It will be enabled again at {time}, unless someone changes it first.", "将于{time}自动启用；若期间有人改动，则不再自动处理。";
    ThenWas: "It was due to be enabled again at {time}.", "原定于{time}自动启用。";
    ThenCalm: "It will be enabled again when the limit's window has calmed down, unless someone changes it first.", "限额窗口回落后自动启用；若期间有人改动，则不再自动处理。";
    ThenAfter: "It will be enabled again after {length}, unless someone changes it first.", "{length}后自动启用；若期间有人改动，则不再自动处理。";

    // Why a guard said no, and what to do about it.
    WhyOff: "The circuit breaker is off. BREAKER_MODE=enforce switches it on.", "熔断未开启，设置 BREAKER_MODE=enforce 即可开启。";
    WhyNoChannel: "The alert's label channel_id says “{text}”, which is no channel's id. Mend the alert rule.", "告警标签 channel_id 的值“{text}”不是渠道 ID，请修正告警规则。";
    WhyRest: "The alert is about the sum of what the limit does not count one by one, so there is no single channel to disable. /api/v1/limits shows what counts; disable by hand what should stop.", "该告警针对限额未逐一统计部分之和，没有单个渠道可以禁用。可在 /api/v1/limits 查看统计情况，如需停止请手动禁用。";
    WhyNoLabel: "The alert has no label channel_id. Add it to the alert rule.", "告警缺少标签 channel_id，请在告警规则中补上。";
    WhyUnknownChannel: "new-api has no such channel. Mend channel_id in the alert rule, or NEW_API_BASE_URL if it is another new-api's.", "new-api 中没有该渠道。请修正告警规则的 channel_id；若连错了 new-api，请修正 NEW_API_BASE_URL。";
    WhyProtected: "It is protected by BREAKER_PROTECT.", "该渠道在 BREAKER_PROTECT 保护名单中。";
    WhyTooOld: "The alert began {length} ago, which is too long to act on by itself.", "告警开始于{length}前，时间过久，不再自动处理。";
    WhyFuture: "The alert begins {length} in the future: a clock is wrong. Set the clocks of Prometheus and of the monitor (NTP).", "告警开始时间比当前晚{length}，时钟有误。请校准 Prometheus 与监控所在主机的时间（NTP）。";
    WhyLast: "No other enabled channel serves model {model} for group {group}, so all such requests would fail.", "分组 {group} 的模型 {model} 没有其他已启用的渠道，禁用后相关请求将全部失败。";
    WhyLastMore: "No other enabled channel serves model {model} for group {group} (the same holds for {others} more group/model pairs), so all such requests would fail.", "分组 {group} 的模型 {model}（另有 {others} 组同样情况）没有其他已启用的渠道，禁用后相关请求将全部失败。";
    AdviseLast: "Add a channel, or let the last one be disabled with BREAKER_ALLOW_LAST=true.", "可新增渠道，或设置 BREAKER_ALLOW_LAST=true 允许禁用最后一个渠道。";
    WhyTooMany: "BREAKER_MAX_PER_HOUR is reached: {count} channels were disabled within an hour. Something larger is wrong; look at all channels.", "已达 BREAKER_MAX_PER_HOUR 上限：一小时内已禁用 {count} 个渠道。可能存在更大的问题，请检查所有渠道。";
    WhyHandsOffNow: "A person changed the channel after the monitor did, and that counts. It is now {status}.", "监控操作之后有人改动过该渠道，以人工操作为准。渠道当前{status}。";
    WhyHandsOff: "A person changed the channel after the monitor did, and that counts.", "监控操作之后有人改动过该渠道，以人工操作为准。";
    WhyNotOurs: "The monitor did not disable it, so it does not enable it.", "该渠道并非由监控禁用，监控不会启用它。";
    WhyOver: "The alert was over before anything was done.", "操作之前告警已结束。";

    // Why new-api could not be made to do it.
    FailUnreachable: "new-api's admin API does not answer ({detail}). Check that new-api runs and that NEW_API_BASE_URL is right.", "new-api 管理接口无响应（{detail}）。请检查 new-api 是否运行、NEW_API_BASE_URL 是否正确。";
    FailDenied: "new-api does not accept the access token, or it may not do this ({detail}). Make a new access token of an administrator for NEW_API_KEY; NEW_API_USER_ID must be that administrator's id. `token-monitor check` tells whether it works.", "new-api 拒绝了访问令牌，或令牌权限不足（{detail}）。请用管理员的系统访问令牌重新设置 NEW_API_KEY，且 NEW_API_USER_ID 须为该管理员的 ID；可用 token-monitor check 验证。";
    FailRateLimited: "new-api says that there were too many requests to its admin API.", "new-api 提示管理接口请求过于频繁。";
    FailRejected: "new-api said no: {detail}.", "new-api 拒绝了操作：{detail}。";
    FailServer: "new-api itself is in trouble (HTTP {status}). Look at new-api's log.", "new-api 自身出错（HTTP {status}），请查看 new-api 日志。";
    FailNoDatabase: "new-api's database cannot be read, so it is not known who else serves what the channel serves. Check that it runs.", "无法读取 new-api 的数据库，无从判断其他渠道能否接替。请检查数据库是否正常。";
    FailNotSet: "NEW_API_BASE_URL and NEW_API_KEY are not set.", "未设置 NEW_API_BASE_URL 和 NEW_API_KEY。";
    NoDetail: "no details", "无详情";

    // Who asked.
    ByAlert: "alert {rule}", "告警“{rule}”";
    ByOperator: "a person, over the API", "人工，通过 API";
    BySchedule: "schedule (restore set by act {act})", "定时恢复（操作 {act}）";
    ByScheduleOf: "schedule (restore set by act {act}, {origin})", "定时恢复（操作 {act}，{origin}）";

    // Titles of acts.
    TitleTripPending: "Being disabled: {channel}", "正在禁用{channel}";
    TitleTripDone: "Disabled {channel}", "已禁用{channel}";
    TitleTripWouldDo: "Dry run: would disable {channel}", "演练：本应禁用{channel}";
    TitleTripAlready: "Already off: {channel}", "{channel}此前已禁用";
    TitleTripRefused: "NOT disabled: {channel}", "未禁用{channel}";
    TitleTripOver: "Left as it is: {channel}", "{channel}保持原状";
    TitleTripFailed: "NOT disabled: {channel}", "禁用失败：{channel}";
    TitleTripUnverified: "UNCERTAIN whether disabled: {channel}", "未确认是否已禁用{channel}";
    TitleRestorePending: "Being enabled again: {channel}", "正在启用{channel}";
    TitleRestoreDone: "Enabled again: {channel}", "已重新启用{channel}";
    TitleRestoreWouldDo: "Dry run: would enable {channel} again", "演练：本应启用{channel}";
    TitleRestoreAlready: "Already on: {channel}", "{channel}此前已启用";
    TitleRestoreByPerson: "Enabled by a person: {channel}", "{channel}已由人工启用";
    TitleRestoreRefused: "Not enabled again: {channel}", "未重新启用{channel}";
    TitleRestoreFailed: "Not enabled again: {channel}", "启用失败：{channel}";
    TitleRestoreUnverified: "UNCERTAIN whether enabled again: {channel}", "未确认是否已启用{channel}";
    TitleActUnknown: "The circuit breaker acted", "熔断器有新操作";
    ActUnknown: "What it did is at /api/v1/breaker.", "详情见 /api/v1/breaker。";

    // A channel that was disabled and is busy.
    TitleBusy: "Disabled, but still answering: {channel}", "已禁用但仍在服务：{channel}";
    Busy: "{length} after it was disabled, {channel} is still taking new requests ({count} seen).", "禁用{length}后，{channel}仍在处理新请求（已见{count} 个）。";
    AtLeast: "at least {count}", "至少 {count}";
    BusyAdvise: "Other nodes of new-api keep channels in memory for a while. If it does not stop, look at the channel in new-api and restart the node that still uses it.", "new-api 的其他节点会短时缓存渠道。若持续不停，请在 new-api 中检查该渠道，并重启仍在使用它的节点。";

    // The monitor's own work.
    TitleRefuses: "Messages to {target} are refused", "{target}拒收消息";
    Refuses: "{target} rejects every message ({reason}). Nobody there gets alerts until this is fixed.", "{target}拒绝接收消息（{reason}）。修复之前，那边收不到任何通知。";
    TitleRefusedOne: "A message to {target} was refused", "{target}拒收了一条消息";
    RefusedOne: "{target} rejected a message ({reason}); others may still arrive.", "{target}拒收了一条消息（{reason}），其他消息可能不受影响。";
    ReasonUnauthorized: "the bot is not known there, or its address is wrong", "机器人已被移除或地址有误";
    ReasonChat: "the chat is not found", "找不到会话";
    ReasonForbidden: "the bot may not write there", "机器人无权在那里发言";
    ReasonKeyword: "they lack the bot's keyword", "消息缺少机器人要求的关键词";
    ReasonSignature: "the signature is missing or wrong", "签名缺失或错误";
    ReasonIp: "the monitor's address is not in the bot's whitelist", "监控的 IP 不在机器人白名单内";
    ReasonTooLong: "it is too long", "消息过长";
    ReasonRejected: "it is not accepted there", "对方不接受该消息";
    ItSays: "It says", "对方返回";
    MendFeishuBot: "Copy the bot's address again from the group's settings to FEISHU_WEBHOOK.", "请在群设置中重新复制机器人地址，填入 FEISHU_WEBHOOK。";
    MendWecomBot: "Copy the bot's address again from the bot's card to WECOM_WEBHOOK.", "请在机器人资料页重新复制地址，填入 WECOM_WEBHOOK。";
    MendTelegramBot: "Set TELEGRAM_BOT_TOKEN to the token that BotFather shows, and check TELEGRAM_API_BASE.", "请将 TELEGRAM_BOT_TOKEN 设为 BotFather 给出的令牌，并检查 TELEGRAM_API_BASE。";
    MendChat: "Correct TELEGRAM_CHAT_ID, or write to the bot, or add it to the group.", "请修正 TELEGRAM_CHAT_ID，或先给机器人发一条消息，或将其加入群组。";
    MendForbidden: "Add the bot to the chat again, and let it write there.", "请重新将机器人加入会话，并允许其发言。";
    MendKeyword: "Set FEISHU_KEYWORD to one of the bot's keywords, or add “Token Monitor” to them.", "请将 FEISHU_KEYWORD 设为机器人的关键词之一，或将“Token Monitor”加入关键词。";
    MendSignature: "Set FEISHU_SECRET to the key that the bot's settings show.", "请将 FEISHU_SECRET 设为机器人设置中显示的密钥。";
    MendIp: "Add the address of the monitor's machine to the bot's IP whitelist, or remove the whitelist.", "请将监控所在主机的 IP 加入机器人的 IP 白名单，或关闭白名单。";
    MendOther: "The monitor's log says more.", "详情见监控日志。";
    RefusesThen: "Then send what was given up: token-monitor deliveries retry --dead.", "修复后可用 token-monitor deliveries retry --dead 重发未送达的消息。";
    TitleDropped: "Messages to {target} were dropped", "发往{target}的消息被丢弃";
    Dropped: "{count} messages to {target} were not sent: too old, or too many were waiting; the oldest is from {time}.", "发往{target}的 {count} 条消息因过期或积压过多而未发送，最早一条来自{time}。";
    DroppedThen: "What they were about is at /api/v1/incidents.", "所涉告警见 /api/v1/incidents。";
    TitleSilent: "Alert pipeline is down", "告警链路中断";
    Silent: "The Watchdog alert last arrived {time}. Until it is back, no alert reaches you and no channel is disabled.", "Watchdog 告警最近一次到达是{time}。恢复之前，告警无法送达，渠道也不会被熔断。";
    SilentThen: "Check that Prometheus and Alertmanager run, and that Alertmanager reaches /webhook/alertmanager with the right password.", "请检查 Prometheus 与 Alertmanager 是否运行，以及 Alertmanager 能否用正确的密码访问 /webhook/alertmanager。";
    TitleBack: "Alerts arrive again", "告警链路已恢复";
    Back: "The Watchdog alert is back after {length} (before, it last arrived at {time}). Alerts are delivered as usual again.", "Watchdog 告警在中断{length}后恢复（此前最近一次到达是{time}）。告警重新照常送达。";
    TitleTest: "Test message", "测试消息";
    Test: "Messages to {target} arrive. Nothing happened; token-monitor check --send asked for this. It is {time}.", "发往{target}的消息可以送达。这是 token-monitor check --send 发出的测试，无需处理。当前时间{time}。";
    TargetTelegram: "Telegram", "Telegram";
    TargetFeishu: "Feishu", "飞书";
    TargetWecom: "WeCom", "企业微信";

    // The rules that come with the monitor.
    RuleLimitExceeded: "Limit exceeded", "限额已超出";
    RuleLimitWarning: "Limit nearly used up", "限额即将用尽";
    RuleLimitProjected: "Limit will be exceeded before its window ends", "预计窗口结束前超出限额";
    RuleChannelFailing: "Most attempts on a channel fail", "渠道多数请求失败";
    RuleChannelErrorRate: "Many attempts on a channel fail", "渠道错误率偏高";
    RuleChannelLatency: "Slow channel", "渠道响应变慢";
    RuleChannelFirstToken: "Slow first token", "渠道首 Token 变慢";
    RuleSlowShare: "Many slow requests", "慢请求占比偏高";
    RuleCostSpike: "Cost spike", "费用突增";
    RuleAutoDisabled: "Channel disabled by new-api itself", "渠道被 new-api 自动禁用";
    RuleBalanceLow: "Low balance", "渠道余额不足";
    RuleTrafficSilent: "No requests at all", "没有任何请求";
    RuleModelWithoutChannel: "Model without an enabled channel", "模型没有可用渠道";
    RuleErrorLogDisabled: "new-api records no failed attempts", "new-api 未记录失败请求";
    RuleDatabaseDown: "new-api's database does not answer", "new-api 数据库无响应";
    RuleMonitorDown: "The monitor does not answer", "监控无响应";
    RuleTailLagging: "The monitor is behind the log", "监控落后于日志";
    RuleRowDefects: "Odd rows in the log", "日志数据异常";
    RuleSeriesOverflow: "Too many label sets", "指标序列过多";
    RuleReloadFailed: "Mistake in limits.yml", "limits.yml 有错误";
    RuleDeliveriesFailing: "Messages are lost", "消息未能送达";
    RuleDeliveriesStuck: "Messages are stuck", "消息积压";
    RuleBreakerDidNotAct: "The circuit breaker did not act", "熔断未执行";
    RuleNotificationsFailing: "Alertmanager cannot deliver alerts", "Alertmanager 无法发送告警";
    RuleRulesFailing: "Prometheus cannot evaluate rules", "Prometheus 规则计算失败";
    RuleWatchdog: "Watchdog", "Watchdog";
}

impl Phrase {
    /// What an alert that comes with the monitor is called; None for a user's own.
    pub(super) fn of_rule(alertname: &str) -> Option<Self> {
        Some(match alertname {
            "NewApiLimitExceeded" => Self::RuleLimitExceeded,
            "NewApiLimitWarning" => Self::RuleLimitWarning,
            "NewApiLimitProjected" => Self::RuleLimitProjected,
            "NewApiChannelFailing" => Self::RuleChannelFailing,
            "NewApiChannelErrorRate" => Self::RuleChannelErrorRate,
            "NewApiChannelLatency" => Self::RuleChannelLatency,
            "NewApiChannelTimeToFirstToken" => Self::RuleChannelFirstToken,
            "NewApiSlowRequestShare" => Self::RuleSlowShare,
            "NewApiCostSpike" => Self::RuleCostSpike,
            "NewApiChannelAutoDisabled" => Self::RuleAutoDisabled,
            "NewApiBalanceLow" => Self::RuleBalanceLow,
            "NewApiTrafficSilent" => Self::RuleTrafficSilent,
            "NewApiModelWithoutChannel" => Self::RuleModelWithoutChannel,
            "NewApiErrorLogDisabled" => Self::RuleErrorLogDisabled,
            "NewApiDatabaseDown" => Self::RuleDatabaseDown,
            "TokenMonitorDown" => Self::RuleMonitorDown,
            "TokenMonitorTailLagging" => Self::RuleTailLagging,
            "TokenMonitorRowDefects" => Self::RuleRowDefects,
            "TokenMonitorSeriesOverflow" => Self::RuleSeriesOverflow,
            "TokenMonitorConfigReloadFailed" => Self::RuleReloadFailed,
            "TokenMonitorDeliveriesFailing" => Self::RuleDeliveriesFailing,
            "TokenMonitorDeliveriesStuck" => Self::RuleDeliveriesStuck,
            "TokenMonitorBreakerDidNotAct" => Self::RuleBreakerDidNotAct,
            "TokenMonitorNotificationsFailing" => Self::RuleNotificationsFailing,
            "TokenMonitorRulesFailing" => Self::RuleRulesFailing,
            "Watchdog" => Self::RuleWatchdog,
            _ => return None,
        })
    }

    /// The unit of a measure; None for one that is not known.
    pub(super) fn of_unit(measure: &str) -> Option<Self> {
        Some(match measure {
            "cost_usd" => Self::UnitUsd,
            "tokens" => Self::UnitTokens,
            "input_tokens" => Self::UnitInputTokens,
            "output_tokens" => Self::UnitOutputTokens,
            "requests" => Self::UnitRequests,
            "errors" => Self::UnitErrors,
            "quota" => Self::UnitQuota,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::limits::Measure;

    fn names(phrase: &str) -> BTreeSet<&str> {
        phrase.split('{').skip(1).map(|rest| rest.split_once('}').expect("a closed brace").0).collect()
    }

    #[test]
    fn every_phrase_says_the_same_in_both_languages() {
        for phrase in Phrase::ALL {
            let (en, zh) = phrase.both();
            assert!(!en.is_empty() && (!zh.is_empty() || *phrase == Phrase::Space), "{phrase:?}");
            assert_eq!(names(en), names(zh), "{phrase:?}");
            assert!(en.chars().all(|c| !('\u{3000}'..='\u{9fff}').contains(&c)), "{phrase:?}: {en}");
        }
    }

    #[test]
    fn every_rule_that_is_shipped_has_a_name() {
        let rules = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus/rules");
        let mut seen = 0;
        for file in std::fs::read_dir(rules).expect("the rules") {
            let text = std::fs::read_to_string(file.expect("a file").path()).expect("a text");
            for name in text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
                seen += 1;
                assert!(Phrase::of_rule(name.trim()).is_some(), "{name}");
            }
        }
        assert!(seen > 20, "only {seen}");
    }

    #[test]
    fn every_measure_has_a_unit() {
        assert!(Measure::ALL.iter().all(|measure| Phrase::of_unit(measure.as_str()).is_some()));
    }
}
