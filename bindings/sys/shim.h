/*
 * What bindgen reads: DPDK's headers, and beside them what it cannot read there.
 *
 * A static inline function has no symbol, a bit field moves between versions, and a macro with a
 * cast in it has no value that bindgen can see. Each such thing that we need has a name here.
 */
#ifndef SHIM_H
#define SHIM_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_version.h>

/* Where struct rte_mbuf keeps its fields: its unions and markers differ from version to version. */
static const size_t SHIM_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr);
static const size_t SHIM_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off);
static const size_t SHIM_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs);
static const size_t SHIM_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags);
static const size_t SHIM_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len);
static const size_t SHIM_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len);
static const size_t SHIM_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len);
static const size_t SHIM_MBUF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci);
static const size_t SHIM_MBUF_RSS_HASH = offsetof(struct rte_mbuf, hash.rss);

static const uint32_t SHIM_HEADROOM = RTE_PKTMBUF_HEADROOM;
static const uint32_t SHIM_MEMPOOL_CACHE_MAX = RTE_MEMPOOL_CACHE_MAX_SIZE;
static const uint32_t SHIM_MAX_ETHPORTS = RTE_MAX_ETHPORTS;
static const uint32_t SHIM_LCORE_ID_ANY = LCORE_ID_ANY;
static const uint32_t SHIM_RING_ONE_TO_ONE = RING_F_SP_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ;

static const uint64_t SHIM_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;
static const uint64_t SHIM_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t SHIM_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t SHIM_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t SHIM_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t SHIM_RX_IP_CKSUM_NONE = RTE_MBUF_F_RX_IP_CKSUM_NONE;
static const uint64_t SHIM_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t SHIM_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t SHIM_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t SHIM_RX_L4_CKSUM_NONE = RTE_MBUF_F_RX_L4_CKSUM_NONE;

static const uint64_t SHIM_PORT_RX_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SHIM_PORT_RX_TCP_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t SHIM_PORT_RX_UDP_CKSUM = RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t SHIM_PORT_RX_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;

/* Hash types whose fields a symmetric key folds to one value for both directions. */
static const uint64_t SHIM_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t SHIM_RSS_TCP = RTE_ETH_RSS_TCP;
static const uint64_t SHIM_RSS_UDP = RTE_ETH_RSS_UDP;

/* A link's state, out of the bit fields of struct rte_eth_link. */
struct shim_link {
	uint32_t speed_mbps;
	uint8_t up;
	uint8_t full_duplex;
};

/* A sink for log text; returns how many bytes it took. */
typedef ssize_t (*shim_log_write)(void *cookie, const char *text, size_t size);

int shim_errno(void);
uint32_t shim_lcore_id(void);
uint64_t shim_cycles(void);
FILE *shim_log_stream(shim_log_write write);

struct rte_mbuf *shim_mbuf_alloc(struct rte_mempool *pool);
int shim_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count);
void shim_mbuf_free(struct rte_mbuf *mbuf);
uint32_t shim_mempool_size(const struct rte_mempool *pool);
uint32_t shim_mempool_data_room(struct rte_mempool *pool);

unsigned int shim_ring_send(struct rte_ring *ring, struct rte_mbuf *const *mbufs,
			    unsigned int count);
unsigned int shim_ring_receive(struct rte_ring *ring, struct rte_mbuf **mbufs,
			       unsigned int count);
unsigned int shim_ring_count(const struct rte_ring *ring);

int shim_link_get(uint16_t port, struct shim_link *link);

#endif
