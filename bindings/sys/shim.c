/*
 * Symbols for what DPDK offers only as static inline. What runs per packet takes a whole burst at
 * a time, so that the call is paid once for thirty-two packets.
 */
#define _GNU_SOURCE
#include "shim.h"

int shim_errno(void)
{
	return rte_errno;
}

uint32_t shim_lcore_id(void)
{
	return rte_lcore_id();
}

uint64_t shim_cycles(void)
{
	return rte_rdtsc();
}

FILE *shim_log_stream(shim_log_write write)
{
	cookie_io_functions_t functions = { .write = write };

	return fopencookie(NULL, "w", functions);
}

struct rte_mbuf *shim_mbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int shim_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

void shim_mbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

uint32_t shim_mempool_size(const struct rte_mempool *pool)
{
	return pool->size;
}

uint32_t shim_mempool_data_room(struct rte_mempool *pool)
{
	return rte_pktmbuf_data_room_size(pool) - RTE_PKTMBUF_HEADROOM;
}

unsigned int shim_ring_send(struct rte_ring *ring, struct rte_mbuf *const *mbufs,
			    unsigned int count)
{
	return rte_ring_sp_enqueue_burst(ring, (void *const *)mbufs, count, NULL);
}

unsigned int shim_ring_receive(struct rte_ring *ring, struct rte_mbuf **mbufs,
			       unsigned int count)
{
	return rte_ring_sc_dequeue_burst(ring, (void **)mbufs, count, NULL);
}

unsigned int shim_ring_count(const struct rte_ring *ring)
{
	return rte_ring_count(ring);
}

int shim_link_get(uint16_t port, struct shim_link *link)
{
	struct rte_eth_link raw;
	int result = rte_eth_link_get_nowait(port, &raw);

	if (result != 0)
		return result;
	link->speed_mbps = raw.link_speed;
	link->up = raw.link_status == RTE_ETH_LINK_UP;
	link->full_duplex = raw.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	return 0;
}
