//! What every reason and flag means to a person, and what to do about it, in English and in Chinese. One table: the command line, the
//! API, the replies to a center and the documents take it from here.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::decision::{GrantFlag, GrantReason, Reason};

/// A sentence for a person: of the table, or as it was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// In English.
    pub en: Cow<'static, str>,
    /// In Chinese, as dormitories write it.
    pub zh: Cow<'static, str>,
}

const fn words(en: &'static str, zh: &'static str) -> Words {
    Words { en: Cow::Borrowed(en), zh: Cow::Borrowed(zh) }
}

impl Reason {
    /// What it means.
    #[must_use]
    pub fn wording(self) -> Words {
        match self {
            Self::MalformedIdentifier => words("the reader gave no valid UID", "读卡器没有给出有效的卡号（UID）"),
            Self::UnknownPortal => words("the device's id is not in the configuration", "配置中没有这个设备编号"),
            Self::StaleRequest => words("the request is old: retained or late", "请求已过时（保留消息或迟到）"),
            Self::OutOfService => words("the portal is out of service", "此通道已停用"),
            Self::Lockdown => words("lockdown: only staff enter", "封闭管理：仅工作人员可进入"),
            Self::RandomIdentifier => {
                words("a telephone, which gives a new UID each time", "手机每次给出的卡号都不同，不能识别")
            }
            Self::AmbiguousIdentifier => words(
                "this reader gives only part of the UID, and two cards share that part",
                "此读卡器只读出部分卡号，有两张卡与之相同",
            ),
            Self::UnknownCredential => words("the card is not in the list", "名单中没有这张卡"),
            Self::Replaced => words("an old card: a newer one was issued", "旧卡：已补办新卡，此卡作废"),
            Self::Cancelled => words("the card was cancelled: checked out or graduated", "卡已注销（退宿或毕业）"),
            Self::Lost => words("the card was reported lost", "卡已挂失"),
            Self::Frozen => words("the card office froze the card", "卡已被卡务中心冻结"),
            Self::AssuranceTooLow => words(
                "this portal wants more than a UID, which a telephone can copy",
                "此处不接受仅凭卡号的读取（可被手机复制）",
            ),
            Self::NotEnrolled => {
                words("the card is valid and not enrolled for this kind of portal", "卡有效，但尚未开通此类权限")
            }
            Self::NoEntitlement => words("the card is enrolled, but not here", "卡已开通，但不包括此处"),
            Self::NotYetValid => words("the enrolment begins later", "权限尚未生效"),
            Self::Expired => words("the enrolment has ended", "权限已到期"),
            Self::ClockUntrusted => {
                words("a date has to be judged and the box's clock is wrong", "需要核对日期，但网关时钟不可信")
            }
            Self::OutsideSchedule => words("outside the hours for this card or portal", "不在允许的时段内"),
            Self::AntiPassback => words("the card entered and did not leave", "反潜回：此卡已进入且未离开"),
            Self::InUseElsewhere => words(
                "the card is in use elsewhere: one of the two may be a copy",
                "此卡正在别处使用，其中之一可能是复制卡",
            ),
            Self::LockedOut => words("too many denials here: closed for a while", "多次刷卡被拒，此处暂时锁定"),
            Self::PowerSuspended => words("power in this room is suspended", "本房间已停电（欠费、过载等）"),
            Self::InternalError => words("the gateway is broken; it denies to be safe", "网关内部错误，为安全起见拒绝"),
            Self::SecondCardRequired => words(
                "two people open this portal together; this was the first card",
                "此处须两人先后刷卡；这是第一张卡",
            ),
            Self::Interlocked => words(
                "another door of this interlock is open or released",
                "互锁：与此门联动的另一道门正开着或刚被释放",
            ),
            Self::MaintenanceOnly => words(
                "a staff card gives power only while the room is suspended for maintenance",
                "工作人员卡仅在本房间因检修停电时可取电",
            ),
            Self::EscortRequired => words("a visitor enters only right after a host", "访客须由接待人陪同进入"),
        }
    }

    /// What a warden does about it.
    #[must_use]
    pub fn remedy(self) -> Words {
        match self {
            Self::MalformedIdentifier => {
                words("try again; if it happens again, have the reader repaired", "请重刷；若仍如此，请报修读卡器")
            }
            Self::UnknownPortal => {
                words("installer: enter the device in the configuration", "请安装人员在配置中登记此设备")
            }
            Self::StaleRequest => {
                words("try again; a device must not publish requests as retained", "请重刷；设备不得以保留消息发送请求")
            }
            Self::OutOfService => words(
                "see who closed it: `dormgate audit tail --type command,posture`; after a fire, reset the fire latch; if it is neither, the list is too old (`policy.after_stale`): see the connection to the center",
                "查看是谁停用的（dormgate audit tail --type command,posture）；火警后需复位；若都不是，则名单过旧（policy.after_stale），请检查与中心的连接",
            ),
            Self::Lockdown => words("wait until it ends; staff may enter", "等待解除；工作人员可进入"),
            Self::RandomIdentifier => words("use the card", "请使用实体卡"),
            Self::AmbiguousIdentifier => words(
                "the card opens at other readers; the card office issues another card, or get a better reader",
                "此卡在其他读卡器可用；请到卡务中心换卡，或更换读卡器",
            ),
            Self::UnknownCredential => words(
                "card office; if every card gets this reason, see the alarm `list` and call IT",
                "请到卡务中心；若所有卡都如此，请查看 list 告警并联系信息中心",
            ),
            Self::Replaced => words(
                "use the new card and hand this one in; presented by somebody else: see the alarm `dead_card`",
                "请用新卡并交回旧卡；若非本人持有，请查看 dead_card 告警",
            ),
            Self::Cancelled => words("card office", "请到卡务中心"),
            Self::Lost => {
                words("keep the card and send the person to the card office", "请扣下此卡，并请持卡人到卡务中心")
            }
            Self::Frozen => words("card office", "请到卡务中心"),
            Self::AssuranceTooLow => words(
                "use the card itself; if nobody gets in, the reader reads only UIDs: the installer lowers `min_assurance`",
                "请使用实体卡；若无人能进，是读卡器仅能读取卡号，请安装人员调低 min_assurance",
            ),
            Self::NotEnrolled => {
                words("apartment center, as after every reissue", "请到公寓管理中心开通（补卡后须重新开通）")
            }
            Self::NoEntitlement => words(
                "check building and room, then ask the apartment center; a visitor opens only the kinds of portal in `policy.visitor_kinds`",
                "请核对楼栋和房间，再到公寓管理中心；访客只能开启 policy.visitor_kinds 所列类型的通道",
            ),
            Self::NotYetValid | Self::Expired => words("apartment center", "请到公寓管理中心"),
            Self::ClockUntrusted => words("call IT: set the clock of the box", "请联系信息中心校准网关时钟"),
            Self::OutsideSchedule => words(
                "wait until the hours begin: the card's own, those of the gate (`after_hours`) or lights-out; if they are wrong, or nobody defined the schedule: apartment center",
                "请在允许的时段刷卡；时段有误或未定义，请到公寓管理中心",
            ),
            Self::AntiPassback => words(
                "ask who used it; if the holder left without a reading, `dormgate forgive UID`, or `dormgate forgive '*'` for everybody",
                "请核实何人使用；若本人离开时未刷卡，可执行 dormgate forgive 解除",
            ),
            Self::InUseElsewhere => words(
                "keep the card that is here and look at the place that the alarm `clone` names; the card office issues another card",
                "请扣下此处的卡，并查看 clone 告警所指的位置；请到卡务中心换卡",
            ),
            Self::LockedOut => words(
                "wait until the lock-out ends (`lockout_s`), or let people in by command; see the alarm `wrong_tries`",
                "请等待锁定结束，或远程开启；查看 wrong_tries 告警",
            ),
            Self::PowerSuspended => words(
                "whoever suspended it: arrears are paid at the apartment center; after a trip, unplug what drew too much: the power comes back by itself, and after the last retry the apartment center resumes it",
                "欠费请到公寓管理中心缴费；过载或违规电器跳闸请先拔下电器，稍后自动恢复；多次跳闸后须由公寓管理中心恢复",
            ),
            Self::InternalError => words("call IT, with the log of the gateway", "请联系信息中心，并提供网关日志"),
            Self::SecondCardRequired => words(
                "somebody else presents a card here before the time is over (`two_card_s`)",
                "请在时限内（two_card_s）由另一人在此刷卡",
            ),
            Self::Interlocked => words(
                "close the other door, wait until its release ends, and present the card again; if it is closed, look at its contact",
                "请关好另一道门，等其释放结束后重刷；若门已关好，请检查门磁",
            ),
            Self::MaintenanceOnly => words(
                "apartment center: suspend power in the room for `maintenance` while you work there",
                "请公寓管理中心在检修期间将本房间设为检修停电（maintenance）",
            ),
            Self::EscortRequired => words(
                "the host presents a card here first; the visitor follows within `visitor_escort_s`",
                "请接待人先在此刷卡，访客随后（visitor_escort_s 内）刷卡进入",
            ),
        }
    }
}

impl GrantReason {
    /// What it means.
    #[must_use]
    pub fn wording(self) -> Words {
        match self {
            Self::Granted => words("the card may pass here", "允许通行"),
            Self::FreeAccess => words("open to everybody now", "此时段常开"),
            Self::Fire => words("fire: gates and doors are released", "火警：门禁已释放"),
            Self::Remote => words("opened by a command", "远程开启"),
            Self::Exit => words("leaving is never refused", "外出不受限制"),
        }
    }
}

impl GrantFlag {
    /// What it means.
    #[must_use]
    pub fn wording(self) -> Words {
        match self {
            Self::Late => words("entered outside the hours of the gate or door", "晚归：在规定时段之外进入"),
            Self::SoftAntiPassback => {
                words("the card passes a second time in one direction", "反潜回：此卡在同一方向连续通行两次")
            }
            Self::CloneSuspected => words(
                "the card seems to be in two places: one of the two may be a copy",
                "此卡似乎同时在两处，其中之一可能是复制卡",
            ),
            Self::StaleList => words(
                "decided by a list that no center has confirmed for `stale_after_s`",
                "判定所用名单已超过 stale_after_s 未经中心确认",
            ),
        }
    }

    /// What a warden does about it.
    #[must_use]
    pub fn remedy(self) -> Words {
        match self {
            Self::Late => words(
                "ask the resident; `dormgate audit late` lists all; whoever has leave gets an entitlement with a schedule from the apartment center",
                "请向本人了解情况；dormgate audit late 可列出晚归名单；经批准的晚归由公寓管理中心开通带时段的权限",
            ),
            Self::SoftAntiPassback => words(
                "ask who used it; if the holder passed without a reading, `dormgate forgive UID`",
                "请核实何人使用；若本人通行时未刷卡，可执行 dormgate forgive 解除",
            ),
            Self::CloneSuspected => words(
                "compare the card with its holder and look at the place that the alarm `clone` names; the card office issues another card",
                "请核对持卡人，并查看 clone 告警所指的位置；请到卡务中心换卡",
            ),
            Self::StaleList => words(
                "see the connection to the center: `dormgate status`; a card that was lost since may still open",
                "请检查与中心的连接（dormgate status）；此后挂失的卡可能仍可通行",
            ),
        }
    }
}
