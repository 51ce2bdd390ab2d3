#include "warp.h"

#include <array>

#include "sanitizer.h"
#include "schedule.h"
#include "shared_memory.h"
#include "threads.h"

namespace xent::emulator {

// A lane that has been here may come again before another has read its values: so there are two rounds, and the second
// cannot be complete, let alone a third begin, before every lane has read those of the first.
struct Meeting {
  struct Round {
    uint64_t values[32];
    unsigned lanes;    // that took part
    unsigned reading;  // of these, who has not read yet
  };
  unsigned mask, arrived, turn;
  Collective kind;
  Site site;
  Round rounds[2];

  bool idle() const { return !arrived && !rounds[0].reading && !rounds[1].reading; }
};

namespace {

struct Warp {
  unsigned lanes = 0, returned = 0;
  size_t meetings_used = 0;
  std::array<Meeting, 64> meetings;  // each lane is in two at most: it waits in one, and is read from in another
};
std::array<Warp, 32> warps;

const char* name(Collective kind) {
  switch (kind) {
    case Collective::syncwarp: return "__syncwarp";
    case Collective::vote: return "a vote";
    case Collective::match: return "__match_any_sync";
    case Collective::reduce: return "__reduce_sync";
    case Collective::shuffle: return "__shfl_sync";
    case Collective::shuffle_up: return "__shfl_up_sync";
    case Collective::shuffle_down: return "__shfl_down_sync";
    case Collective::shuffle_xor: return "__shfl_xor_sync";
  }
  return "";
}

Meeting& meeting_of(Warp& warp, unsigned mask) {
  Meeting* free = nullptr;
  for (size_t i = 0; i < warp.meetings_used; ++i) {
    Meeting& meeting = warp.meetings[i];
    if (meeting.mask == mask) return meeting;
    if (!free && meeting.idle()) free = &meeting;
  }
  Meeting& meeting = free ? *free : warp.meetings[warp.meetings_used++];
  meeting.mask = mask;
  meeting.arrived = meeting.turn = 0;
  meeting.rounds[0].reading = meeting.rounds[1].reading = 0;
  return meeting;
}

void wake_lanes(const Meeting& meeting, const Thread& by) {
  const bool backward = schedule().order == Order::backward;
  for (unsigned i = 0; i < 32; ++i) {
    const unsigned lane = backward ? i : 31 - i;  // the last of these is the first to run
    if (!(meeting.mask >> lane & 1) || lane == by.lane) continue;
    Thread& thread = block.threads[by.warp * 32 + lane];
    if (thread.state == Thread::State::in_warp && thread.meeting == &meeting) wake(thread);
  }
}

}  // namespace

Exchange meet(unsigned mask, Collective kind, uint64_t value, Site site) {
  Thread& thread = self();
  Warp& warp = warps[thread.warp];
  const unsigned lane = 1u << thread.lane;
  if (!(mask & lane))
    stop("{} at {}: the mask {:08x} leaves out the calling lane {}", name(kind), site, mask, thread.lane);
  mask &= warp.lanes;  // the last warp of a block may be shorter: a full mask means those that are there
  if (mask & warp.returned)
    stop("{} at {}: the mask {:08x} names the lanes {:08x}, which have returned", name(kind), site, mask,
         mask & warp.returned);

  Meeting& meeting = meeting_of(warp, mask);
  if (!meeting.arrived) {
    meeting.kind = kind;
    meeting.site = site;
  } else if (meeting.kind != kind || meeting.site != site) {
    stop("divergent warp: lane {} calls {} at {}, others wait in {} at {}", thread.lane, name(kind), site,
         name(meeting.kind), meeting.site);
  }
  Meeting::Round& round = meeting.rounds[meeting.turn];
  round.values[thread.lane] = value;
  meeting.arrived |= lane;
  // Only __syncwarp orders memory: a value that goes through a shuffle says nothing of what was stored before.
  void* const token =
      block_token(2 + (thread.warp * warp.meetings.size() + static_cast<size_t>(&meeting - warp.meetings.data())) * 2 +
                  meeting.turn);
  if (kind == Collective::syncwarp) release(token);
  if (meeting.arrived == mask) {
    round.lanes = round.reading = mask;
    meeting.arrived = 0;
    meeting.turn ^= 1;
    wake_lanes(meeting, thread);
  } else {
    thread.meeting = &meeting;
    wait(Thread::State::in_warp, site);
  }
  if (kind == Collective::syncwarp) acquire(token);
  round.reading &= ~lane;
  return {round.values, round.lanes};
}

uint64_t shuffle(unsigned mask, Collective kind, uint64_t value, int argument, int width, Site site) {
  if (width < 1 || width > 32 || (width & (width - 1)) != 0)
    stop("{} at {}: width {} is not a power of two up to 32", name(kind), site, width);
  const Exchange exchange = meet(mask, kind, value, site);
  const int lane = static_cast<int>(self().lane), first = lane & ~(width - 1), last = first + width - 1;
  const int distance = argument & 31;  // all that the hardware looks at
  int from = lane;
  switch (kind) {
    case Collective::shuffle: from = first + (argument & (width - 1)); break;
    case Collective::shuffle_up: from = lane - distance < first ? lane : lane - distance; break;
    case Collective::shuffle_down: from = lane + distance > last ? lane : lane + distance; break;
    default: from = (lane ^ distance) > last ? lane : lane ^ distance; break;
  }
  if (!(exchange.lanes >> from & 1))
    stop("{} at {}: lane {} reads from lane {}, which did not take part: the lanes were {:08x}", name(kind), site, lane,
         from, exchange.lanes);
  return exchange.values[from];
}

unsigned ballot(unsigned mask, bool predicate, Site site) {
  const Exchange exchange = meet(mask, Collective::vote, predicate ? 1 : 0, site);
  unsigned in_favour = 0;
  for (unsigned lane = 0; lane < 32; ++lane)
    if (exchange.lanes >> lane & 1 && exchange.values[lane]) in_favour |= 1u << lane;
  return in_favour;
}

void clear_warps() {
  const size_t threads = block.threads.size();
  for (size_t w = 0; w * 32 < threads; ++w) {
    const size_t lanes = threads - w * 32;
    warps[w].lanes = lanes >= 32 ? ~0u : (1u << lanes) - 1;
    warps[w].returned = 0;
    warps[w].meetings_used = 0;
  }
}

void check_return_in_warp(const Thread& thread) {
  Warp& warp = warps[thread.warp];
  warp.returned |= 1u << thread.lane;
  for (size_t i = 0; i < warp.meetings_used; ++i) {
    const Meeting& meeting = warp.meetings[i];
    if (meeting.arrived && meeting.mask >> thread.lane & 1)
      stop("lane {} returns while the lanes {:08x} wait for it in {} at {}, whose mask is {:08x}", thread.lane,
           meeting.arrived, name(meeting.kind), meeting.site, meeting.mask);
  }
}

std::string describe(const Meeting& meeting) {
  return fmt::format("{} with mask {:08x}", name(meeting.kind), meeting.mask);
}

}  // namespace xent::emulator
