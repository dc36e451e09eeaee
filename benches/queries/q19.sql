-- The ten highest bids of each auction, with their places.
SELECT auction, bidder, price, channel, url, date_time, extra, rownum
FROM (
  SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, bidder, channel, url, date_time, extra) AS rownum
  FROM bid
) ranked
WHERE rownum <= 10
