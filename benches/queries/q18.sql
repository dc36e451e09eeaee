-- Each bidder's last bid on each auction.
SELECT auction, bidder, price, channel, url, date_time, extra
FROM (
  SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC, price, channel, url, extra) AS rownum
  FROM bid
) ranked
WHERE rownum <= 1
