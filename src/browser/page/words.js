// What the pages say, in English and Chinese. Reasons and flags come from the gateway, which has them for its command line too.

const WORDS = {
  // Frame
  page_now: ["Now", "实时"], page_card: ["Card", "查卡"], page_doors: ["Doors and boxes", "门与电源"], page_audit: ["Audit", "记录"], page_charts: ["Charts", "图表"],
  pages: ["Pages", "页面"], skip: ["To the content", "跳到正文"], theme: ["Light or dark", "明暗切换"],
  log_in: ["Log in", "登录"], log_out: ["Log out", "退出"], logged_in: ["You are logged in.", "已登录。"],
  session_ended: ["Your session has ended, log in again. What only those see who have logged in is hidden.", "登录已失效，请重新登录。登录后才显示的内容已隐藏。"],
  zone_of_times: ["times of", "时间按"], fire_banner: ["Fire: gates and doors are held open. When the fire is over, reset the latch on “Doors and boxes”.", "火警：门禁保持开启。火警解除后请在“门与电源”页复位。"],
  filter: ["Show only: portal, room or area", "筛选：通道、房间或区域"], none_match: ["No portal matches.", "没有符合的通道。"],
  login_why: ["Your name stands in the audit beside every order. The token is in the file of `[http] token_file`.", "每条指令都会连同您的姓名记入日志。口令见 [http] token_file 指定的文件。"],
  your_name: ["Your name", "您的姓名"], token: ["Token", "口令"], back: ["Back", "返回"], close: ["Close", "关闭"],
  login_to_read: ["This console can be reached from other machines: log in to read.", "此控制台可从其他机器访问，请先登录再查看。"],
  login_to_order: ["Log in to give orders.", "登录后才能下达指令。"],
  login_for_alarms: ["Log in to confirm that you have seen to an alarm.", "登录后可确认告警已处理。"],
  no_token: ["Nothing can be changed here: `[http] token_file` is not set in the configuration.", "此处不能更改：配置中未设置 [http] token_file。"],
  orders_are_audited: ["Every order is confirmed first, and stands in the audit with your name.", "每条指令都需确认，并连同您的姓名记入日志。"],
  loading: ["One moment …", "请稍候……"], unreachable: ["The gateway does not answer; is it running, and is the network there?", "网关没有应答；请检查网关是否运行、网络是否正常。"],
  lost: ["The connection to the gateway is lost. What you see may be old; it comes back by itself.", "与网关的连接已断开，所显示的内容可能已过时；连接会自动恢复。"],
  missed: ["Events FROM to TO are not shown here; look into the audit.", "事件 FROM 至 TO 未在此显示，请查看记录。"],
  done: ["done", "已完成"],
  // Now
  alarms: ["Alarms", "告警"], no_alarms: ["No open alarm.", "没有未处理的告警。"], seen: ["Seen to", "已处理"], seen_all: ["All seen to", "全部已处理"], seen_all_means: ["Every alarm that is shown leaves this page; it stays in the audit with your name.", "所显示的全部告警将从此页消失，并连同您的姓名留在记录中。"], over_since: ["over since", "已于此时结束"],
  health: ["The gateway", "网关状态"], portals: ["Portals", "通道"], decisions: ["Decisions as they happen", "实时判定"],
  link_uplink: ["center", "中心"], link_local: ["local broker", "本地消息代理"], connected: ["connected", "已连接"], away: ["not connected", "未连接"],
  clock: ["clock", "时钟"], trusted: ["trusted", "可信"], untrusted: ["not trusted", "不可信"],
  list: ["list", "名单"], missing: ["missing", "缺失"], never: ["never received", "从未收到"],
  disk_good: ["disk: written", "磁盘：正常写入"], disk_free: ["disk free", "磁盘剩余空间"], cards: ["cards", "张卡"], audit_last: ["last event", "最新事件"], center_has: ["the center has", "中心已收到"],
  insecure: ["insecure", "不安全"], unreadable: ["cannot be read:", "消息无法解析："], unconfirmed: ["not confirmed off since", "尚未确认断电，自"],
  online: ["online", "在线"], offline: ["offline", "离线"], silent: ["no message yet", "尚无消息"], power_is_on: ["power on", "已通电"], power_is_off: ["power off", "未通电"],
  in: ["in", "进"], out: ["out", "出"], no_card_yet: ["No card yet", "尚无刷卡"],
  grant: ["may pass", "允许"], deny: ["denied", "拒绝"],
  // Portals and postures
  kind_gate: ["gate", "闸机"], kind_door: ["door", "房门"], kind_power_box: ["power box", "取电盒"],
  posture: ["Posture", "模式"], posture_secure: ["cards decide", "刷卡通行"], posture_free_access: ["free access", "常开"], posture_lockdown: ["lockdown", "封闭管理"], posture_out_of_service: ["out of service", "停用"], posture_fire: ["fire", "火警"],
  posture_secure_means: ["Cards decide again.", "恢复由刷卡判定。"],
  posture_free_access_means: ["Everybody passes without a card until it is set back.", "在恢复之前，任何人无需刷卡即可通行。"],
  posture_lockdown_means: ["Only staff enter until it is set back. Leaving is never refused.", "在恢复之前仅工作人员可进入；外出不受限制。"],
  posture_out_of_service_means: ["Nobody enters until it is set back, staff included.", "在恢复之前任何人（含工作人员）不得进入。"],
  power_cut_too: ["The power of every room goes off too (power boxes: COUNT), until it is set back.", "全部房间也将断电（取电盒：COUNT 个），直到恢复为止。"],
  box_lockdown_means: ["The power of this room goes off, and residents' cards do not switch it on until it is set back.", "该房间将断电；在恢复之前住宿生的卡不能通电。"],
  box_out_of_service_means: ["The power of this room goes off, and no card switches it on until it is set back, staff included.", "该房间将断电；在恢复之前任何卡（含工作人员）都不能通电。"],
  posture_fire_means: ["Gates and doors are held open.", "门禁将保持开启。"],
  set: ["Set", "设置"], every_portal: ["Every portal", "全部通道"],
  release: ["Open once", "开门一次"], release_means: ["It opens now, once, for whoever stands there.", "立即开启一次，任何在场的人都可通过。"],
  power_on: ["Power on", "通电"], power_on_means: ["Power is switched on without a card.", "无卡也将通电。"],
  power_off: ["Power off", "断电"], power_off_means: ["Power is switched off now. The next card that may switches it on again.", "立即断电；下一张有效卡可再次通电。"],
  suspend: ["Suspend power", "停电"], suspend_means: ["The power goes off, and no card switches it on, staff included, until you resume it here, also over a restart.", "立即断电，在此处恢复之前任何卡（含工作人员）都不能通电，网关重启后仍有效。"],
  resume: ["Resume power", "恢复供电"], resume_means: ["Cards decide again. A card that is still in the box gets its power back. What the apartment center has suspended stays suspended.", "恢复由刷卡判定，仍在盒中的卡将重新通电。公寓管理中心所停的电不受影响。"],
  zone_power: ["Power of a room or area", "房间或区域的供电"], zone: ["Room or area", "房间或区域"], boxes: ["power boxes", "取电盒"],
  fire_reset: ["Reset the fire latch", "火警复位"], fire_reset_means: ["Ends the fire latch, once every fire input is clear. Cards decide again.", "所有火警输入解除后结束火警锁定，恢复由刷卡判定。"], fire_force: ["Set aside inputs whose portal is offline or gone", "忽略已离线或已移除通道的火警输入"],
  forgive: ["Forgive", "解除反潜回"], forgive_means: ["Where the card is does not count against its next passage.", "此前的位置不再影响下次通行。"], forgive_label: ["Card UID, or * for every card", "卡号，或 * 表示全部"],
  // Card
  card_label: ["Card UID, as a reader prints it", "卡号（按读卡器所示输入）"], card_hint: ["Hex with or without separators, reversed, or a decimal number. The number printed on the card and the student number are not the UID. A portal or room after it is shown first, with why: 1EA68671 door-412.", "可输入十六进制（有无分隔符均可）、倒序或十进制。卡面印刷号与学号不是卡号。其后可加通道或房间，将首先显示并说明原因：1EA68671 door-412。"],
  no_place: ["PLACE is not the name of a portal or room; they stand on the page Now.", "PLACE 不是通道或房间的名称；名称见“实时”页。"],
  look_up: ["Look up", "查询"], read_as: ["read as", "读作"], known: ["in the list", "在名单中"], unknown: ["not in the list", "不在名单中"], or_is_it: ["Or is it:", "或者是："],
  spelling_hex: ["hex", "十六进制"], spelling_hex_reversed: ["hex, reversed", "倒序十六进制"], spelling_decimal: ["decimal", "十进制"], spelling_decimal_reversed: ["decimal, reversed", "倒序十进制"], spelling_check_byte: ["hex with a check byte", "带校验字节"], spelling_cascade_tag: ["hex with a cascade tag", "带级联标记"],
  why: ["Why", "原因"], what_to_do: ["What to do", "处理办法"], also: ["Also against it", "其他原因"],
  holds_not_against: ["ok", "通过"], is_against: ["denies", "拒绝"], set_by: ["set by", "依据"],
  revocations: ["Revocations", "撤销记录"], received: ["received", "收到"], in_force: ["in force", "生效"], confirmed_off: ["confirmed", "已确认"],
  // Charts
  charts_hint: ["The last 24 h, a figure each five minutes, since the start of the gateway.", "最近 24 小时，每五分钟一个数值，自网关启动起。"],
  decisions_an_hour: ["Decisions an hour", "每小时判定数"], an_hour: ["in an hour", "次/小时"], a_day_ago: ["24 h ago", "24 小时前"], right_now: ["now", "现在"], power: ["Power drawn", "用电功率"], in_sum: ["in sum", "合计"], no_meters: ["No meter reports.", "没有电表读数。"],
  lines: ["Lines", "总线"], no_lines: ["No Modbus line.", "没有 Modbus 总线。"], load: ["load", "负载"], errors_of: ["errors of", "次错误，共"], requests: ["requests", "次请求"],
  flush_time: ["Time of a flush to the disk", "写盘耗时"], per_flush: ["mean of each sample", "各时段平均值"], latest: ["latest", "最新"], highest: ["highest", "最高"], no_figures: ["no figures yet", "暂无数据"],
  // Audit
  all: ["all", "全部"], portal: ["Portal", "通道"], card: ["Card", "卡"], holder: ["Holder", "持卡人"], type: ["Type", "类型"], flag: ["Flag", "标记"], since: ["Since", "自"], until: ["Until", "至"], search: ["Search", "搜索"],
  found: ["found", "条"], kept: ["kept:", "保存范围"], older: ["Older", "更早"], no_older: ["No older events.", "没有更早的事件。"],
  col_n: ["No.", "编号"], col_time: ["Time", "时间"], col_type: ["Type", "类型"], flag: ["Flag", "标记"], col_portal: ["Portal", "通道"], col_card: ["Card", "卡"], col_holder: ["Holder", "持卡人"], col_what: ["What", "内容"], cut: ["power cut", "已断电"],
  show_event: ["Show event", "查看事件"], event: ["Event", "事件"],
  hidden: ["shown after a login", "登录后显示"],
  login_for_hash: ["The hashes are shown after a login: a card number could be computed from them.", "登录后显示哈希值：由哈希值可推算卡号。"],
  hash_of_erased: ["The event was erased: its own hash is in what stays of it, and the chain goes on from that.", "该事件已删除：其原哈希值保留在剩余内容中，链由此延续。"],
  chain_before: ["Chain to the event before", "与前一事件的链"], chain_after: ["Chain to the event after", "与后一事件的链"], chain_holds: ["holds", "完整"], chain_broken: ["BROKEN", "已断裂"], chain_unknown: ["not there", "不存在"],
};

/** What has happened and what to do, of each kind of alarm; the gravest first, as a list of alarms has them. */
const ALARMS = {
  fire: [["Fire input", "The fire rules of the building. Afterwards reset the latch."], ["火警输入", "按楼宇火警预案处置，之后复位。"]],
  duress: [["A card was presented under duress", "Send help, quietly."], ["胁迫卡被出示", "请悄然派人支援。"]],
  unconfirmed_revocation: [["A relay that had to go off is not confirmed off", "Go there; switch the room off by hand."], ["应断电的继电器未确认断开", "请到场手动断电。"]],
  forced_open: [["A door opened without a release", "Go and look."], ["门被强行打开", "请到场查看。"]],
  power_without_card: [["Power is drawn without a permitted card, or a dead card is in the box", "Look at the box: a replaced or lost card in it, a bridge, or a relay that sticks."], ["无有效卡却在用电，或盒中是已作废的卡", "请查看取电盒：可能插着已换或挂失的卡、被短接或继电器粘连。"]],
  tamper: [["A housing is open", "Go and look."], ["设备外壳被打开", "请到场查看。"]],
  clone: [["One card in two places", "Compare the card with its holder; one of the two may be a copy."], ["同一张卡出现在两处", "请核对持卡人；其中之一可能是复制卡。"]],
  dead_card: [["A card that was replaced, cancelled or lost", "Go and look: a finder, a copy, or the owner with the old card."], ["已作废、注销或挂失的卡", "请到场查看：拾卡人、复制卡或本人误用旧卡。"]],
  power_trip: [["A power box tripped for its load", "Unplug what drew too much."], ["取电盒因负载跳闸", "请拔下过载或违规电器。"]],
  wrong_tries: [["Many denials at one portal", "A queue of people who are not enrolled, or somebody trying: look."], ["同一处多次拒绝", "可能是尚未开通的人排队，也可能有人试探：请查看。"]],
  held_open: [["A door stays open", "Close it; look for what holds it."], ["门长时间未关", "请关门并查看原因。"]],
  portal_offline: [["A portal does not answer", "Power, cable, unit number."], ["通道无应答", "请检查电源、线缆与设备编号。"]],
  store: [["The disk is damaged, full, failing or slow", "Call IT: make room, or change the disk."], ["存储损坏、已满、出错或过慢", "请联系信息中心清理空间或更换磁盘。"]],
  clock: [["The clock cannot be trusted", "Call IT: set the clock of the box."], ["时钟不可信", "请联系信息中心校准网关时钟。"]],
  list: [["The list is incomplete or in doubt", "See the connection to the center; call IT if it lasts."], ["名单不完整或有疑问", "请检查与中心的连接；若持续请联系信息中心。"]],
  insecure: [["Something is configured insecurely", "Call IT: the configuration names it."], ["配置存在安全问题", "请联系信息中心，详见配置说明。"]],
  portal_malformed: [["A portal sends messages that cannot be read", "Repair or update the device."], ["通道发送的消息无法解析", "请维修或更新设备。"]],
};

const EVENTS = {
  decision: ["decision", "判定"], taken: ["passed", "已通过"], not_taken: ["not passed", "未通过"], power_on: ["power on", "通电"], power_ordered: ["power ordered", "下令通电"], power_off: ["power off", "断电"], power_trip: ["trip", "跳闸"],
  revoked: ["revoked", "撤销"], revocation_durable: ["revocation on disk", "撤销已落盘"], revocation_confirmed: ["revocation confirmed", "撤销已确认"], changes_applied: ["change applied", "变更生效"], rejected_message: ["message rejected", "消息被拒"],
  command: ["order", "指令"], posture: ["posture", "模式"], alarm: ["alarm", "告警"], portal_online: ["portal online", "通道上线"], portal_offline: ["portal offline", "通道离线"], boot: ["start", "启动"], clock_step: ["clock", "时钟"], log_gap: ["events lost", "事件丢失"], config: ["note", "备注"],
};

/** What a warden meets of a gateway's refusals: a part of its sentence, or its beginning with a colon, and the Chinese for it. */
const REFUSALS = [
  ["the token is wrong", "口令错误；口令见 [http] token_file 指定的文件"],
  ["too many wrong tokens", "错误口令过多，请等一分钟再试"],
  ["a login is needed", "请先登录"],
  ["a printed card number or a student number", "卡面印刷号与学号不是卡号，请刷卡读取"],
  ["a number printed on the card, or a student number", "卡面印刷号与学号不是卡号；若是读卡器所示的十进制数，请改写为十六进制"],
  ["neither a card nor a holder", "既不是卡号，也不是持卡人编号；编号应为 1 至 64 个字母、数字、_ 或 -，且以字母或数字开头"],
  ["is not a card UID", "这不是卡号：卡号为 4、7 或 10 字节的十六进制数"],
  ["is offline; check its power", "该通道离线，请检查其电源与连接"],
  ["is out of service; set its posture", "该通道已停用，请先恢复为刷卡通行"],
  ["nothing may be on at", "该取电盒目前不允许通电，请先解除其原因"],
  ["no fire latch is set", "没有火警锁定，无需复位；以模式设置的火警，请改设其他模式"],
  ["no event names `", "没有此通道，也没有任何事件提到它"],
  ["no portal `", "没有配置此通道"],
  ["in force but not on disk", "指令已生效但未写入磁盘，重启后可能丢失；请检查网关磁盘后重新下达"],
  ["the gateway is stopping", "网关正在停止，请稍后再试"],
  ["the gateway task has ended", "网关已停止，请稍后再试"],
  ["no token is configured", "未配置口令，无法在此更改：请设置 [http] token_file 后重新启动"],
  ["`Bearer TOKEN` is wanted", "Authorization 应为 Bearer 加口令"],
  ["a page of another site may not ask", "其他网站的页面不得访问本控制台"],
  ["a page of another origin may not order", "其他来源的页面不得在此下达指令"],
  ["`Origin` is missing", "缺少 Origin；程序请改用 Authorization: Bearer 口令"],
  ["`Origin` is not this console's", "Origin 与本控制台不符；前置代理须转发浏览器的 Host"],
  ["too many cards were looked up", "未登录查卡过多，请登录，或等一分钟再试"],
  ["may be several cards of the list", "可能是名单中的几张卡；请先查卡，再填写十六进制卡号"],
  ["an identifier is 1 to 64", "编号应为 1 至 64 个字母、数字、_ 或 -，且以字母或数字开头"],
  ["bytes are read", "请求内容过长"],
  ["the body has more than", "请求内容过长"],
  ["the body: ", "请求内容无法读取，请更正"],
  ["`portals` names none", "未指明通道；若指所有通道，请略去 portals"],
  ["`Dormgate-Actor`: ", "Dormgate-Actor 应为操作人姓名"],
  ["`name`: ", "请更正姓名"],
  ["gives no random numbers", "操作系统无法提供随机数，不能登录；请检查网关系统"],
  ["is a power box; use `power`", "这是取电盒，请使用通电或断电"],
  ["is no power box; use `release`", "这不是取电盒，请使用放行"],
  ["fire input still active", "火警输入仍然有效，请先排除"],
  ["fire input last reported active", "最后报告火警的输入已离线或不存在；请到现场查看，再强制复位"],
  ["numbers of events are wanted", "请填写事件编号"],
  ["is unknown; a filter has", "没有此筛选条件"],
  ["is not a type of audit event", "没有此类事件"],
  ["is not a flag of decisions", "没有此判定标记"],
  ["`since` is later than `until`", "起始时间晚于结束时间，请对调或清除其一"],
  ["is not a time like", "时间有误，应如 2026-09-01T08:00:00.000Z"],
  ["`csv` or `jsonl` is wanted", "导出格式应为 csv 或 jsonl"],
  ["is not in the journal", "日志中没有此事件：可能太旧、已丢失或尚未写入"],
  ["the number of an event is wanted", "应为事件编号"],
  ["consoles are open already", "打开的控制台过多，请关闭一些"],
  ["the audit cannot be read", "审计记录无法读取，请检查网关磁盘"],
  ["the metrics cannot be read", "指标无法读取"],
  ["the query: ", "请求参数有误，请更正"],
];

/** What went wrong, in this person's language; the sentence itself stays beside it, because it names what it is about. */
export function refusal(message) {
  const known = language() === "zh" && REFUSALS.find(([part]) => (part.endsWith(": ") ? message.startsWith(part) : message.includes(part)));
  return known ? `${known[1]}（${message}）` : message;
}

/** The types of events, for a filter. */
export const EVENT_TYPES = Object.keys(EVENTS);

/** What a grant may carry, for a filter. */
export const FLAGS = ["late", "soft_anti_passback", "clone_suspected", "stale_list"];

/** How grave an alarm is: the lower, the graver. */
export const gravity = (name) => (name in ALARMS ? Object.keys(ALARMS).indexOf(name) : 0);

/** Adds the words of one console, in place of those of the same name. */
export function more(words) {
  Object.assign(WORDS, words);
}

let reasons = {};
let chosen = null;
try {
  chosen = localStorage.getItem("dormgate-language");
} catch {
  // The browser's language.
}

export function language() {
  return chosen ?? ((navigator.languages ?? [navigator.language]).find((tag) => /^(zh|en)/i.test(tag))?.slice(0, 2).toLowerCase() ?? "en");
}

export function setLanguage(tag) {
  chosen = tag;
  try {
    localStorage.setItem("dormgate-language", tag);
  } catch {
    // It holds until the page is left.
  }
}

/** Takes the words of reasons and flags, from the gateway. */
export function learn(words) {
  reasons = words;
}

const side = () => (language() === "zh" ? 1 : 0);

/** The words for `key`. */
export const t = (key) => WORDS[key]?.[side()] ?? key;
export const kind = (name) => t(`kind_${name}`);
export const eventWords = (type) => (type === "hidden" ? t("hidden") : (EVENTS[type]?.[side()] ?? type));
export const meaning = (reason) => reasons[reason]?.[language()] ?? reason ?? "";
export const remedy = (reason) => reasons[reason]?.[`do_${language()}`] ?? "";

export function alarmWords(name) {
  const [means, todo] = ALARMS[name]?.[side()] ?? [name, ""];
  return { means, todo };
}

let zone;

/** Takes the time zone of the gateway: its schedules follow it, so its times are shown in it. */
export function inZone(name) {
  try {
    Intl.DateTimeFormat("en", { timeZone: name });
    zone = name;
  } catch {
    // A zone that this browser does not know: its own is shown.
    zone = undefined;
  }
}

/** The zone of the times that are shown. */
export const zoneName = () => zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone;

const parts = (at) => Object.fromEntries(Intl.DateTimeFormat("en-GB", { timeZone: zone, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" })
  .formatToParts(at).map(({ type, value }) => [type, value]));
const day = (at) => { const { year, month, day } = parts(at); return `${year}-${month}-${day}`; };

/** A time, in the zone of the gateway. */
export function time(text) {
  const at = new Date(text);
  const date = day(at) === day(new Date()) ? {} : { year: "numeric", month: "2-digit", day: "2-digit" };
  return at.toLocaleString(language() === "zh" ? "zh-CN" : "en-GB", { ...date, timeZone: zone, hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

/** A time that was typed as one of the gateway's zone, for a question. */
export function typed(text) {
  const wall = Date.parse(`${text}Z`);
  const shown = (at) => { const p = parts(at); return Date.UTC(p.year, p.month - 1, p.day, p.hour, p.minute, p.second); };
  let at = wall;
  // Twice: the offset may be another one on the other side of a change of the clocks.
  for (let round = 0; round < 2; round += 1) at += wall - shown(at);
  return new Date(at).toISOString();
}

/** A sentence of the gateway with its times as all others are shown. */
export const withTimes = (text) => text?.replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, (at) => time(at));

/** A number of bytes, to three digits so that it does not change with each event. */
export function size(bytes) {
  const [unit, by] = bytes >= 1e9 ? ["GB", 1e9] : ["MB", 1e6];
  return `${Number((bytes / by).toPrecision(3))} ${unit}`;
}

/** How old something is. */
export function age(seconds) {
  const chinese = side() === 1;
  if (seconds < 120) return chinese ? `${seconds} 秒前` : `${seconds} s old`;
  if (seconds < 7200) return chinese ? `${Math.round(seconds / 60)} 分钟前` : `${Math.round(seconds / 60)} min old`;
  return chinese ? `${Math.round(seconds / 3600)} 小时前` : `${Math.round(seconds / 3600)} h old`;
}
