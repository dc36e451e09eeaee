-- Pass through. Every bid as it is: auction, bidder, price, time, extra.
FROM bid SELECT auction, bidder, price, date_time, extra;
