-- Auction statistics report. Per auction and day: bids, those of each rank of price (as in q15), the least, highest, average
-- and summed price.
WITH days AS (
  SELECT auction, date_time::DATE AS day, list_sort(list(price)) AS prices FROM bid GROUP BY ALL
)
SELECT auction, day::TIMESTAMP, len(prices),
       len(list_filter(prices, lambda p: p < 10000)),
       len(list_filter(prices, lambda p: p >= 10000 AND p < 1000000)),
       len(list_filter(prices, lambda p: p >= 1000000)),
       prices[1], prices[-1], list_sum(prices) / len(prices), list_sum(prices)
FROM days;
